"""Overlays, palettes and label images."""

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import PromptError
from qsam2_deploy.media.writing.drawing import CROWD, OPACITY, contour, draw_overlay, mask_box
from qsam2_deploy.media.writing.mask_writer import MaskWriter, label_image
from qsam2_deploy.media.writing.palette import davis_palette, overlay_color
from qsam2_deploy.tracking.results import FrameResult, ObjectResult


def item(object_id, mask, height=1.0):
    logits = np.where(mask, height, -5.0).astype(np.float32)
    return ObjectResult(object_id, mask, logits, 3.0, True)


def square(y1, y2, x1, x2, shape=(60, 80)):
    mask = np.zeros(shape, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_davis_palette():
    palette = davis_palette()
    assert palette.shape == (256, 3)
    assert palette[:8].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0],
        [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128],
    ]  # fmt: skip
    assert palette[8].tolist() == [64, 0, 0]
    assert palette[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette, axis=0)) == 256


def test_overlay_colors_are_distinct():
    assert len({overlay_color(i) for i in range(1, 65)}) == 64


def test_box():
    assert mask_box(square(3, 8, 10, 30)) == (10, 3, 30, 8)
    assert mask_box(square(0, 0, 0, 0)) is None


def test_contour_is_the_rim():
    mask = square(10, 20, 10, 20)
    rim = contour(mask, 2)
    np.testing.assert_array_equal(rim, mask & ~square(12, 18, 12, 18))
    # Where the object leaves the image there is no rim.
    assert not contour(np.ones((5, 5), dtype=bool), 2).any()


def test_overlay_touches_masks_and_labels_only():
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    before = frame.copy()
    mask = square(30, 50, 20, 60)
    drawn = draw_overlay(frame, FrameResult(0, (item(1, mask),)))
    np.testing.assert_array_equal(frame, before)
    mixed = np.round((1 - OPACITY) * frame[40, 40] + OPACITY * np.array(overlay_color(1)))
    np.testing.assert_allclose(drawn[40, 40], mixed, atol=1)
    assert tuple(drawn[49, 40]) == overlay_color(1)
    np.testing.assert_array_equal(drawn[52:], frame[52:])
    np.testing.assert_array_equal(drawn[:10], frame[:10])
    assert (drawn[20:30] != frame[20:30]).any(), "the label is above the mask"


def test_overlay_without_objects_is_the_frame():
    frame = np.full((20, 30, 3), 9, dtype=np.uint8)
    empty = item(1, square(0, 0, 0, 0, (20, 30)))
    np.testing.assert_array_equal(draw_overlay(frame, FrameResult(0)), frame)
    np.testing.assert_array_equal(draw_overlay(frame, FrameResult(0, (empty,))), frame)


@pytest.mark.parametrize("corner", [(0, 3, 0, 3), (57, 60, 77, 80), (0, 60, 0, 80)])
def test_labels_stay_on_the_frame(corner):
    frame = np.zeros((60, 80, 3), dtype=np.uint8)
    drawn = draw_overlay(frame, FrameResult(0, (item(123, square(*corner)),)))
    assert drawn.shape == frame.shape
    assert drawn.any()


@pytest.mark.parametrize(("objects", "shown"), [(CROWD, CROWD), (CROWD + 1, 1)])
def test_numbers_of_a_crowd_do_not_cover_each_other(objects, shown):
    frame = np.zeros((60, 80, 3), np.uint8)
    mask = square(30, 40, 30, 40)
    result = FrameResult(0, tuple(item(number, mask) for number in range(1, objects + 1)))
    drawn = draw_overlay(frame, result)
    above = drawn[:30]  # where there are nothing but numbers, the last one on top
    assert (above == overlay_color(shown)).all(axis=2).any()


def test_highest_logit_wins_in_any_order():
    low, high = item(1, square(0, 20, 0, 20), 1.0), item(2, square(10, 30, 10, 30), 2.0)
    for objects in ((low, high), (high, low)):
        labels = label_image(60, 80, FrameResult(0, objects))
        assert labels[15, 15] == 2
        assert labels[5, 5] == 1
        assert labels[25, 25] == 2
        assert labels[40, 40] == 0


def test_masks_on_disk(tmp_path):
    writer = MaskWriter(tmp_path / "masks")
    writer.write(7, 60, 80, FrameResult(0, (item(255, square(1, 2, 3, 9)),)))
    writer.close()
    with Image.open(tmp_path / "masks" / "00007.png") as image:
        assert image.mode == "P"
        assert image.size == (80, 60)
        np.testing.assert_array_equal(np.array(image), 255 * square(1, 2, 3, 9))
        np.testing.assert_array_equal(np.array(image.convert("RGB"))[1, 3], davis_palette()[255])
    assert [p.name for p in (tmp_path / "masks").iterdir()] == ["00007.png"]


@pytest.mark.parametrize("object_id", [0, 256])
def test_object_number_that_is_no_pixel(object_id):
    with pytest.raises(PromptError, match=f"object {object_id} cannot be written"):
        label_image(60, 80, FrameResult(0, (item(object_id, square(1, 2, 3, 9)),)))
