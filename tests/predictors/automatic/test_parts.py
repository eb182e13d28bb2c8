"""Points, crops, duplicates and runs, each by hand or against a slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qsam2_deploy.data.datasets.rle import decode_rle, text_of_runs
from qsam2_deploy.predictors.automatic.duplicates import best_of_overlapping
from qsam2_deploy.predictors.automatic.grid import crop_boxes, grids_of_layers, point_grid
from qsam2_deploy.predictors.automatic.runs import Part

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_points_are_the_centres_of_cells_row_by_row() -> None:
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    np.testing.assert_array_equal(point_grid(2), expected)
    np.testing.assert_array_equal(point_grid(1), [[0.5, 0.5]])


def test_layers_have_fewer_points() -> None:
    assert [len(grid) for grid in grids_of_layers(9, 2, 2)] == [81, 16, 4]


def test_crops_by_hand() -> None:
    # Overlap 0.25 of 80 pixels: 20; (20 + 100) / 2 = 60 wide, (20 + 80) / 2 = 50 high.
    boxes = [box for box, _ in crop_boxes((80, 100), 1, 0.25)]
    assert boxes == [(0, 0, 100, 80), (0, 0, 60, 50), (0, 30, 60, 80), (40, 0, 100, 50),
                     (40, 30, 100, 80)]  # fmt: skip


@pytest.mark.parametrize("ratio", [0.0, 512 / 1500, 1.0])
def test_crops_of_a_layer_cover_the_picture(ratio: float) -> None:
    covered = np.zeros((3, 61, 97), np.int64)
    for (x1, y1, x2, y2), layer in crop_boxes((61, 97), 2, ratio):
        covered[layer, y1:y2, x1:x2] += 1
    assert covered.min() >= 1


def test_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([0.5, 0.9, 0.7, 0.6], np.float32)
    # IoU of the first two: 90 / 110; of the first and the last, and the second and the last: less.
    assert best_of_overlapping(boxes, scores, 0.7).tolist() == [1, 2, 3]
    assert best_of_overlapping(boxes, scores, 0.9).tolist() == [1, 2, 3, 0]
    assert best_of_overlapping(boxes, scores, 0.3).tolist() == [1, 2]
    assert best_of_overlapping(boxes[:0], scores[:0], 0.5).tolist() == []


def test_equal_scores_and_boxes_without_area() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [2, 2, 2, 2], [2, 2, 2, 2]], np.float32)
    assert best_of_overlapping(boxes, np.ones(4, np.float32), 0.5).tolist() == [0, 2, 3]


def test_the_threshold_itself_is_not_above_it() -> None:
    boxes = np.array([[0, 0, 4, 2], [0, 0, 4, 4]], np.float32)
    assert best_of_overlapping(boxes, np.ones(2, np.float32), 0.5).tolist() == [0, 1]


@settings(max_examples=50)
@given(MASKS, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_part_is_the_mask(pixels: np.ndarray, top: int, left: int, more: int) -> None:
    rows, columns = pixels.shape
    size = (top + rows + more, left + columns + more)
    expected = np.zeros(size, bool)
    expected[top : top + rows, left : left + columns] = pixels
    part = Part.of(pixels, top, left)
    np.testing.assert_array_equal(part.mask(size), expected)
    assert part.area == expected.sum()
    counts = part.coco_counts(size)
    assert sum(counts) == expected.size
    assert min(counts[1:], default=1) > 0
    for form in (counts, text_of_runs(counts)):
        mask = decode_rle({"size": size, "counts": form}, "test")
        np.testing.assert_array_equal(mask, expected)


def test_an_empty_part() -> None:
    part = Part.of(np.zeros((0, 0), bool), 0, 0)
    assert (part.area, part.coco_counts((2, 3))) == (0, [6])
    assert not part.mask((2, 3)).any()


def test_text_of_runs_as_pycocotools_writes_it() -> None:
    assert text_of_runs([0, 6]) == "06"
    assert text_of_runs([12]) == "<"
    assert text_of_runs([3, 2, 5, 40000, 7, 1, 100000]) == "325nQW12QnhNidQ3"
