"""The reader of images with masks."""

import json

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.data.datasets.image_set import image_set
from qsam2_deploy.errors import VideoError
from tests.data.datasets import HEIGHT, WIDTH, frame, square, write_image
from tests.data.test_sav import encode


@pytest.fixture
def root(tmp_path):
    """Two images with PNG masks, one of either kind."""
    write_image(tmp_path / "images" / "a.png", frame(1))
    write_image(tmp_path / "masks" / "a.png", square(1, 1) + square(30, 20, value=7), palette=True)
    write_image(tmp_path / "images" / "b.jpg", frame(2))
    for number, x in ((1, 4), (2, 10), (3, 999)):
        write_image(tmp_path / "masks" / "b" / f"{number}.png", square(x, 5, value=255))
    return tmp_path


def test_labels_and_folders(root):
    a, b = image_set(root)
    assert (a.name, a.frame_count, a.annotated, a.size) == ("a", 1, (0,), (HEIGHT, WIDTH))
    assert a.object_ids == (1, 7)
    assert np.array_equal(a.masks(0)[7], square(30, 20) > 0)
    assert np.array_equal(a.frame(0), frame(1))
    assert b.object_ids == (1, 2), "the third mask is empty"
    assert (b.masks(0)[1] & b.masks(0)[2]).any(), "masks of a folder may overlap"


def test_names(root):
    assert [s.name for s in image_set(root, ["b"])] == ["b"]
    with pytest.raises(VideoError, match="known are: a, b"):
        image_set(root, ["c"])


def test_json(tmp_path):
    write_image(tmp_path / "x.jpg", frame(1))
    masks = [square(1, 1) > 0, square(3, 3) > 0]
    data = {"annotations": [{"segmentation": encode(mask)} for mask in masks]}
    (tmp_path / "x.json").write_text(json.dumps(data))
    (sample,) = image_set(tmp_path)
    assert sample.object_ids == (1, 2)
    assert np.array_equal(sample.masks(0)[2], masks[1])


def test_turned_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(frame(1)).save(tmp_path / "images" / "a.jpg", exif=exif)
    write_image(tmp_path / "masks" / "a.png", np.ones((WIDTH, HEIGHT), np.uint8))
    (sample,) = image_set(tmp_path)
    assert sample.size == (WIDTH, HEIGHT)
    assert sample.frame(0).shape[:2] == sample.masks(0)[1].shape == (WIDTH, HEIGHT)


class TestBadInput:
    def test_no_root(self, tmp_path):
        with pytest.raises(VideoError, match="there is no folder"):
            image_set(tmp_path / "none")

    def test_empty_root(self, tmp_path):
        with pytest.raises(VideoError, match="holds no sequence"):
            image_set(tmp_path)

    def test_no_mask(self, root):
        (root / "masks" / "a.png").unlink()
        with pytest.raises(VideoError, match=r"a\.png has no mask; expected"):
            image_set(root)

    def test_no_json(self, tmp_path):
        write_image(tmp_path / "x.jpg", frame(1))
        with pytest.raises(VideoError, match=r"x\.jpg has no annotations"):
            image_set(tmp_path)

    @pytest.mark.parametrize("text", ["{", "[]", '{"annotations": [{}]}'])
    def test_damaged_json(self, tmp_path, text):
        write_image(tmp_path / "x.jpg", frame(1))
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(VideoError, match="as SA-1B annotations"):
            image_set(tmp_path)[0].masks(0)

    def test_empty_masks(self, root):
        write_image(root / "masks" / "a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
        with pytest.raises(VideoError, match=r"a\.png shows no object"):
            image_set(root)[0].masks(0)

    @pytest.mark.parametrize(("name", "file"), [("a", "a.png"), ("b", "b/2.png")])
    def test_mask_of_another_size(self, root, name, file):
        write_image(root / "masks" / file, np.ones((5, 6), np.uint8))
        with pytest.raises(VideoError, match="6x5 pixels, but its frame is 64x48"):
            image_set(root, [name])[0].masks(0)

    def test_damaged_image(self, root):
        (root / "images" / "a.png").write_bytes(b"no image")
        with pytest.raises(VideoError, match=r"cannot read .*a\.png as an image"):
            image_set(root)

    def test_other_frames(self, root):
        with pytest.raises(IndexError):
            image_set(root)[0].frame(1)
