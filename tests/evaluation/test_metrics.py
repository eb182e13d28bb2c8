"""J and F against numbers worked out by hand, and against a slow formula."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsam2_deploy.evaluation.metrics import (
    boundary_accuracy,
    boundary_map,
    dilated,
    region_similarity,
    tolerance_radius,
)


def mask(text):
    return np.array([[c == "#" for c in line] for line in text.split()])


def empty(height=40, width=40):
    return np.zeros((height, width), bool)


def box(y1, x1, y2, x2, height=40, width=40):
    result = empty(height, width)
    result[y1:y2, x1:x2] = True
    return result


class TestRegion:
    def test_by_hand(self):
        # 4x4 and 4x4 that share 2x4: 8 / 24.
        assert region_similarity(box(0, 0, 4, 4), box(2, 0, 6, 4)) == pytest.approx(1 / 3)

    def test_both_empty(self):
        assert region_similarity(empty(), empty()) == 1.0

    def test_one_empty(self):
        assert region_similarity(box(1, 1, 3, 3), empty()) == 0.0
        assert region_similarity(empty(), box(1, 1, 3, 3)) == 0.0

    def test_void_counts_neither_way(self):
        predicted, truth, void = box(0, 0, 4, 4), box(2, 0, 6, 4), box(0, 0, 2, 40)
        assert region_similarity(predicted, truth, void) == pytest.approx(8 / 16)
        assert region_similarity(predicted, empty(), box(0, 0, 40, 40)) == 1.0

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="one shape"):
            region_similarity(empty(), empty(3, 3))


class TestBoundaryMap:
    def test_lies_half_a_pixel_towards_the_origin(self):
        given = mask("..... ..... ..##. ..##. .....")
        expected = mask("..... .###. .#.#. .###. .....")
        assert np.array_equal(boundary_map(given), expected)

    def test_one_pixel(self):
        given, expected = mask("... .#. ..."), mask("##. ##. ...")
        assert np.array_equal(boundary_map(given), expected)

    def test_image_border_is_no_boundary(self):
        assert not boundary_map(np.ones((5, 7), bool)).any()
        corner = mask("##.. ##.. ....")
        assert np.array_equal(boundary_map(corner), mask(".#.. ##.. ...."))
        lower = mask(".... ..## ..##")
        assert np.array_equal(boundary_map(lower), mask(".### .#.. .#.."))

    @pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1)])
    def test_thin_images(self, shape):
        one = np.zeros(shape, bool)
        one[-1, -1] = True
        assert boundary_map(one).sum() == (max(shape) > 1)


class TestDilated:
    @pytest.mark.parametrize(("radius", "pixels"), [(0, 1), (1, 5), (2, 13), (3, 29), (8, 197)])
    def test_disk(self, radius, pixels):
        # Pixels with x^2 + y^2 <= r^2: the numbers of Gauss's circle problem.
        point = empty()
        point[20, 20] = True
        disk = dilated(point, radius)
        assert disk.sum() == pixels
        y, x = np.nonzero(disk)
        assert ((y - 20) ** 2 + (x - 20) ** 2).max() == radius**2

    def test_at_the_border(self):
        point = empty(4, 3)
        point[0, 0] = True
        assert np.array_equal(dilated(point, 2), mask("### ##. #.. ..."))
        assert dilated(point, 9).all()


def test_radius():
    assert tolerance_radius(480, 854) == 8  # 0.008 * 979.7 = 7.84
    assert tolerance_radius(1080, 1920) == 18  # 0.008 * 2202.9 = 17.6
    assert tolerance_radius(40, 40) == 1
    assert tolerance_radius(300, 400) == 4  # exactly 4.0


class TestBoundary:
    def test_equal(self):
        assert boundary_accuracy(box(3, 3, 9, 9), box(3, 3, 9, 9)) == 1.0

    def test_both_empty(self):
        assert boundary_accuracy(empty(), empty()) == 1.0

    def test_one_empty(self):
        assert boundary_accuracy(box(3, 3, 9, 9), empty()) == 0.0
        assert boundary_accuracy(empty(), box(3, 3, 9, 9)) == 0.0

    def test_full_image_has_no_boundary(self):
        full = ~empty()
        assert boundary_accuracy(full, full) == 1.0
        assert boundary_accuracy(full, empty()) == 1.0
        assert boundary_accuracy(full, box(3, 3, 9, 9)) == 0.0

    def test_one_pixel_each(self):
        # Boundaries of 4 pixels; the radius is 1 here. Two pixels to the right, a column of 2 is
        # one pixel away from the other boundary on either side.
        one, two = empty(), empty()
        one[10, 10] = two[10, 12] = True
        assert boundary_accuracy(one, two) == pytest.approx(0.5)
        near = empty()
        near[10, 11] = True
        assert boundary_accuracy(one, near) == 1.0

    def test_precision_is_not_recall(self):
        # The boundary of truth is found whole (recall 1); the prediction has another square, whose
        # boundary of the same 4*5 - 4 = 16... pixels is far away (precision 1/2).
        truth = box(3, 3, 8, 8)
        predicted = truth | box(28, 28, 33, 33)
        assert boundary_accuracy(predicted, truth) == pytest.approx(2 * 0.5 / 1.5)
        assert boundary_accuracy(truth, predicted) == pytest.approx(2 * 0.5 / 1.5)

    @pytest.mark.parametrize(("shift", "expected"), [(8, 1.0), (9, None)])
    def test_tolerance_of_480p(self, shift, expected):
        # A wide bar from border to border, moved down by the radius, and by one pixel more.
        truth = box(100, 0, 200, 854, 480, 854)
        predicted = np.roll(truth, shift, axis=0)
        assert boundary_accuracy(predicted, truth) == (0.0 if expected is None else expected)

    def test_void_is_background(self):
        truth, void = box(3, 3, 9, 9), box(0, 0, 40, 6)
        assert boundary_accuracy(box(3, 6, 9, 9), truth, void) == 1.0
        assert boundary_accuracy(box(3, 6, 9, 9), truth) < 1.0

    @pytest.mark.parametrize("corner", [(0, 0), (0, 30), (30, 0), (30, 30), (29, 29)])
    def test_at_the_border(self, corner):
        y, x = corner
        truth, predicted = box(y, x, y + 10, x + 10), box(y, x, y + 8, x + 10)
        assert boundary_accuracy(predicted, truth) == pytest.approx(slow(predicted, truth))

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 45), st.integers(1, 45))
    def test_the_window_changes_nothing(self, seed, height, width):
        rng = np.random.default_rng(seed)
        pair = [random_mask(rng, height, width) for _ in range(2)]
        assert boundary_accuracy(*pair) == pytest.approx(slow(*pair), abs=1e-12)

    def test_fast(self):
        y, x = np.mgrid[:480, :854]
        truth = ((y - 240) / 90) ** 2 + ((x - 400) / 120) ** 2 < 1
        predicted = np.roll(truth, (3, 5), (0, 1))
        times = []
        for _ in range(7):
            start = time.perf_counter()
            boundary_accuracy(predicted, truth)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.02, (
            "a few milliseconds are normal; this leaves room for slow machines"
        )


def random_mask(rng, height, width):
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros((height, width), bool)
    if kind == 1:
        return rng.random((height, width)) < 0.1
    y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
    result = np.zeros((height, width), bool)
    result[y[0] : y[1], x[0] : x[1]] = True
    return result if kind == 2 else ~result


def slow(predicted, truth):
    """F from the definition: distances between all pairs of boundary pixels."""
    sets = []
    for item in (predicted, truth):
        height, width = item.shape
        sets.append(
            [
                (y, x)
                for y in range(height)
                for x in range(width)
                if any(
                    item[min(y + dy, height - 1), min(x + dx, width - 1)] != item[y, x]
                    for dy, dx in ((0, 1), (1, 0), (1, 1))
                )
            ]
        )
    found, expected = (np.array(points).reshape(-1, 1, 2) for points in sets)
    if not len(found) or not len(expected):
        return float(len(found) == len(expected))
    distance = np.linalg.norm(found - expected.reshape(1, -1, 2), axis=2)
    near = distance <= math.ceil(0.008 * math.hypot(*truth.shape))
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
