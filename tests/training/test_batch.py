"""Clips as tensors."""

import numpy as np
import pytest
import torch

from qsam2_deploy.data.sample import Clip
from qsam2_deploy.training.inputs.batch import batch_from_clips


def clip(value, objects):
    frames = np.full((3, 32, 32, 3), value, np.uint8)
    frames[1] += 1
    frames[..., 2] = 0
    masks = np.zeros((3, objects, 32, 32), bool)
    for n in range(objects):
        masks[:, n, n, value] = True
    return Clip(frames, masks)


@pytest.fixture
def batch():
    return batch_from_clips([clip(10, 1), clip(20, 3)], objects=2)


def test_images(batch):
    assert batch.images.shape == (6, 3, 32, 32)
    assert batch.images.dtype == torch.float32
    pixels = batch.images[:, :, 0, 0] * torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels + torch.tensor([0.485, 0.456, 0.406])) * 255
    assert pixels.round().int().tolist() == [[v, v, 0] for v in (10, 20, 11, 21, 10, 20)]


def test_objects(batch):
    assert batch.clip_of.tolist() == [0, 1, 1]  # the third object of the second clip is left out
    assert batch.masks.shape == (3, 3, 32, 32)
    for n, (row, column) in enumerate(((0, 10), (0, 20), (1, 20))):
        assert batch.masks[2, n].nonzero().tolist() == [[row, column]]
    assert batch.images_of(2).tolist() == [4, 5, 5]


def test_moving(batch):
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.images, moved.masks, moved.clip_of)} == {"meta"}
    assert (moved.frame_count, moved.clip_count) == (3, 2)
