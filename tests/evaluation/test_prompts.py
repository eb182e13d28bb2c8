"""Clicks, boxes and masks made from the ground truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import PromptError, VideoError
from qsam2_deploy.evaluation.prompts import first_prompts
from qsam2_deploy.evaluation.shapes import centre_point, squared_distance_to_outside, tight_box
from tests.data.datasets import HEIGHT, WIDTH, moving, square, write_davis, write_sav


def test_box():
    labels = np.zeros((20, 30), bool)
    labels[4:9, 7:19] = True
    assert tight_box(labels) == (7, 4, 18, 8)


@pytest.mark.parametrize("pixel", [(0, 0), (5, 9), (19, 29)])
def test_box_of_one_pixel_is_not_empty(pixel):
    labels = np.zeros((20, 30), bool)
    labels[pixel] = True
    x1, y1, x2, y2 = tight_box(labels)
    assert (x1, y1) == (pixel[1], pixel[0])
    assert (x2, y2) == (x1 + 1, y1 + 1)


def test_centre_of_a_square():
    labels = np.zeros((20, 30), bool)
    labels[4:9, 7:12] = True
    assert centre_point(labels) == (9, 6)


def test_centre_is_in_the_thick_part():
    labels = np.zeros((40, 60), bool)
    labels[10:13] = True
    labels[5:18, 40:53] = True
    assert centre_point(labels) == (46, 11)


def test_border_of_the_image_is_outside():
    labels = np.ones((9, 9), bool)
    assert centre_point(labels) == (4, 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.floats(0.05, 0.98))
def test_distances_are_exact(seed, height, width, share):
    labels = np.random.default_rng(seed).random((height, width)) < share
    padded = np.pad(labels, 1)
    outside = np.argwhere(~padded)
    y, x = np.mgrid[1 : height + 1, 1 : width + 1]
    squared = (y[..., None] - outside[:, 0]) ** 2 + (x[..., None] - outside[:, 1]) ** 2
    assert np.array_equal(squared_distance_to_outside(labels), squared.min(axis=-1))


class TestFirstPrompts:
    def test_davis(self, tmp_path):
        labels = [square(2, 2) + square(40, 20, value=2), square(4, 2)]
        (sequence,) = davis_sequences(write_davis(tmp_path, {"a": labels}))
        masks = first_prompts(sequence, "mask")
        assert [(p.object_id, p.frame_index) for p in masks] == [(1, 0), (2, 0)]
        assert np.array_equal(masks[1].mask, labels[0] == 2)
        assert [p.click for p in first_prompts(sequence, "click")] == [(9, 9), (47, 27)]
        assert [p.box for p in first_prompts(sequence, "box")][1] == (40, 20, 55, 35)

    def test_late_objects(self, tmp_path):
        empty = np.zeros((HEIGHT, WIDTH), np.uint8)
        moves = moving(13)
        videos = {
            "v": {
                0: {0: moves[0], 4: moves[4], 8: moves[8]},
                1: {0: empty, 4: empty, 8: moves[8], 12: moves[12]},
                2: {4: moves[4]},
            }
        }
        (sequence,) = sav_sequences(write_sav(tmp_path, videos, 13))
        prompts = first_prompts(sequence, "mask")
        assert [(p.object_id, p.frame_index) for p in prompts] == [(0, 0), (2, 4), (1, 8)]

    def test_object_that_is_nowhere(self, tmp_path):
        empty = np.zeros((HEIGHT, WIDTH), np.uint8)
        root = write_sav(tmp_path, {"v": {0: {0: moving(1)[0]}, 3: {0: empty, 4: empty}}}, 5)
        with pytest.raises(VideoError, match="no annotation of v shows object 3"):
            first_prompts(sav_sequences(root)[0], "mask")

    def test_unknown_kind(self, tmp_path):
        (sequence,) = davis_sequences(write_davis(tmp_path, {"a": moving(2)}))
        with pytest.raises(PromptError, match="one of mask, click, box, but got 'word'"):
            first_prompts(sequence, "word")
