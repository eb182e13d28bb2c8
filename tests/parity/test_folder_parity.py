"""Folders of frames are read as the official loader reads them."""

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.utils.misc import load_video_frames

from qsam2_deploy.media.reading.sources import open_indexed
from tests.support.media_samples import frame_image

SIZE = 128


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(2):
        Image.fromarray(frame_image(i)).save(tmp_path / f"{i}.jpg", exif=exif)
    Image.fromarray(frame_image(2)).save(tmp_path / "2.png")
    theirs, height, width = load_video_frames(
        str(tmp_path), SIZE, True, (0, 0, 0), (1, 1, 1), compute_device=torch.device("cpu")
    )
    ours = open_indexed(tmp_path, ignore_orientation=True, official=True)
    assert (len(ours), ours.height, ours.width) == (len(theirs), height, width)
    for i in range(2):
        pixels = np.asarray(Image.fromarray(ours[i]).resize((SIZE, SIZE)))
        np.testing.assert_array_equal(theirs[i].permute(1, 2, 0), pixels.astype(np.float32) / 255)
