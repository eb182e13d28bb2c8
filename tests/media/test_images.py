"""Frames from image files."""

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading.images import list_frames
from qsam2_deploy.media.reading.sources import open_frames, open_indexed
from tests.support.media_samples import HEIGHT, WIDTH, frame_image, frame_number, write_folder


def test_folder_is_sorted_by_number_not_by_text(tmp_path):
    names = ["0.jpg", "1.jpg", "2.JPG", "10.jpeg", "00011.jpg", "100.jpg"]
    folder = write_folder(tmp_path / "f", names)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.jpg").write_text("no frame")
    assert [p.name for p in list_frames(folder)] == names
    with open_frames(folder) as frames:
        assert (frames.width, frames.height, frames.num_frames) == (WIDTH, HEIGHT, 6)
        assert [frame_number(f) for f in frames] == list(range(6))


def test_other_names_are_sorted_naturally(tmp_path):
    names = ["shot1.png", "shot2.png", "shot10.png"]
    folder = write_folder(tmp_path / "f", names)
    assert [p.name for p in list_frames(folder)] == names


def test_jpeg_frames_win_over_png_masks(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "0.jpg"])
    assert [p.name for p in list_frames(folder)] == ["0.jpg"]


def test_png_frames_are_exact_in_order_and_by_number(tmp_path):
    folder = write_folder(tmp_path / "f", [f"{i}.png" for i in range(5)])
    with open_frames(folder, start=2) as frames:
        got = list(frames)
    assert len(got) == 3
    np.testing.assert_array_equal(got[0], frame_image(2))
    with open_indexed(folder) as indexed:
        assert len(indexed) == 5
        np.testing.assert_array_equal(indexed[4], frame_image(4))
        np.testing.assert_array_equal(indexed[-5], frame_image(0))
        with pytest.raises(IndexError, match="no frame 5"):
            indexed[5]


def test_one_image_is_one_frame(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(frame_image(7)).save(path)
    with open_frames(path) as frames:
        got = list(frames)
    assert [frame_number(f) for f in got] == [7]


def test_orientation_tag_is_honoured(tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it clockwise by 90 degrees
    Image.fromarray(frame_image(0)).save(path, exif=exif)
    with open_frames(path) as frames:
        assert (frames.width, frames.height) == (HEIGHT, WIDTH)


def test_random_access_keeps_few_frames(tmp_path):
    folder = write_folder(tmp_path / "f", [f"{i}.png" for i in range(8)])
    with open_indexed(folder, cache_frames=3) as indexed:
        for i in range(8):
            indexed[i]
        assert len(indexed._cache) == 3


def test_frame_of_another_size_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    Image.fromarray(frame_image(0, 30, 20)).save(folder / "2.png")
    message = r"frame 2 \(2.png\).* is 20x30 .* are 64x48"
    with open_frames(folder) as frames, pytest.raises(VideoError, match=message):
        list(frames)
    with open_indexed(folder) as indexed, pytest.raises(VideoError, match=message):
        indexed[2]


def test_folder_without_frames(tmp_path):
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(VideoError, match="holds no frames; expected JPEG or PNG"):
        open_frames(tmp_path)


def test_damaged_image_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    with open_frames(folder) as frames, pytest.raises(VideoError, match=r"1\.png as an image"):
        list(frames)


def test_start_past_the_end(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    with pytest.raises(VideoError, match="has 2 frames, numbered from 0 to 1"):
        open_frames(folder, start=2)
