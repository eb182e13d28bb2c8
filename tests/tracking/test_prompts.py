from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsam2_deploy.errors import PromptError
from qsam2_deploy.tracking.prompts import mask_input, point_inputs

SIZE = {"frame_size": (50, 100), "image_size": 64}


def test_points_are_scaled_to_the_model_input():
    found = point_inputs([(50, 25), (100, 0)], [1, 0], None, **SIZE)
    assert found.coords.tolist() == [[32, 32], [64, 0]]
    assert found.labels.tolist() == [1, 0]
    assert found.coords.dtype == np.float32
    assert found.labels.dtype == np.int32


def test_a_box_comes_before_the_points():
    found = point_inputs([(50, 25)], [0], (0, 0, 100, 50), **SIZE)
    assert found.coords.tolist() == [[0, 0], [64, 64], [32, 32]]
    assert found.labels.tolist() == [2, 3, 0]


def test_a_box_alone():
    found = point_inputs(None, None, np.float64([[10, 5, 20, 10]]), **SIZE)
    assert found.labels.tolist() == [2, 3]
    assert found.coords.shape == (2, 2)


def test_normalised_coordinates():
    found = point_inputs([(0.5, 0.25)], [1], None, **SIZE, normalize=False)
    assert found.coords.tolist() == [[32, 16]]


@given(
    st.lists(st.tuples(st.floats(0, 99), st.floats(0, 49)), min_size=1, max_size=5), st.booleans()
)
def test_official_scripts_may_give_a_leading_axis(points, axis):
    labels = [1] * len(points)
    plain = point_inputs(points, labels, None, **SIZE)
    nested = point_inputs([points], [labels] if axis else labels, None, **SIZE)
    np.testing.assert_array_equal(plain.coords, nested.coords)
    np.testing.assert_array_equal(plain.labels, nested.labels)
    assert (plain.coords >= 0).all()
    assert (plain.coords <= 64).all()


REFUSED: list[tuple[Any, Any, Any, str]] = [
    (None, None, None, "at least one of points or box"),
    ([(1, 2)], None, None, "points and labels must be provided together"),
    (None, [1], None, "points and labels must be provided together"),
    (None, [1], (1, 2, 3, 4), "points and labels must be provided together"),
    ([(1, 2)], [1, 0], None, "got 1 points and 2 labels"),
    ([], [], None, "at least one point"),
    ([1, 2, 3], [1], None, "points must be numbers that fit the shape"),
    (["a", "b"], [1], None, "points must be numbers"),
    ([(1, 2)], ["yes"], None, "labels must be numbers"),
    ([(1, 2), (3,)], [1, 1], None, "points must be numbers"),
    (None, None, (1, 2, 3), "box must be numbers that fit the shape"),
    (None, None, "0 0 9 9", "box must be numbers"),
    ([(np.nan, 2)], [1], None, "points must be finite"),
    (None, None, (0, 0, np.inf, 9), "box must be finite"),
    ([(1, 2)], [10**30], None, "labels must be numbers"),
]


@pytest.mark.parametrize(("points", "labels", "box", "message"), REFUSED)
def test_refused(points, labels, box, message):
    with pytest.raises(PromptError, match=message):
        point_inputs(points, labels, box, **SIZE)


def test_a_mask_of_the_model_size_is_kept():
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    found = mask_input(mask, 64)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, int])
def test_a_mask_is_resized_and_made_of_zeros_and_ones(dtype):
    mask = np.zeros((50, 100))
    mask[:, 50:] = 1 if dtype is bool else 7
    found = mask_input(mask.astype(dtype), 64)
    assert found.shape == (64, 64)
    assert (found[:, :32] == 0).all()
    assert (found[:, 32:] == 1).all()


def test_a_mask_in_one_pixel_of_a_large_frame_may_vanish():
    mask = np.zeros((640, 640), bool)
    mask[300, 300] = True
    assert not mask_input(mask, 64).any()


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4), ()])
def test_a_mask_must_have_two_dimensions(shape):
    with pytest.raises(PromptError, match=r"shape \(height, width\), but got"):
        mask_input(np.zeros(shape), 64)
