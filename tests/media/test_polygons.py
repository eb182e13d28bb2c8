"""Polygons cover their masks, whatever these look like."""

import cv2
import numpy as np
import pytest

from qsam2_deploy.media.writing import polygons
from qsam2_deploy.media.writing.polygons import edge_polygons, joined, pixel_polygons


def any_mask(seed):
    """Return noise, with many parts, holes, and pixels that touch at corners; or blobs."""
    rng = np.random.default_rng(seed)
    noise = rng.random(rng.integers(1, 12, 2)) < rng.random()
    if seed % 2:
        return noise
    smooth = cv2.resize(noise.astype(np.float32), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    return smooth > 0.5


def inside(polygon, shape):
    """Fill a polygon on the edges of pixels: a centre is inside if it sees odd edges."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    count = np.zeros(shape, int)
    for (x1, y1), (_, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        count += (min(y1, y2) <= y) & (max(y1, y2) > y) & (x1 <= x)
    return count % 2


def drawn(polygon, shape):
    """Fill a polygon as OpenCV does, outline and all."""
    return cv2.fillPoly(np.zeros(shape, np.uint8), [polygon.astype(np.int32)], 1).astype(int)


@pytest.mark.parametrize("seed", range(40))
def test_polygons_cover_each_pixel_once(seed):
    mask = any_mask(seed)
    for found, fill in ((edge_polygons(mask), inside), (pixel_polygons(mask), drawn)):
        total = sum((fill(polygon, mask.shape) for polygon in found), np.zeros(mask.shape, int))
        np.testing.assert_array_equal(total, mask)


@pytest.mark.parametrize("many", [64, 0])
@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_joined_polygons_lose_no_pixel(seed, many, monkeypatch):
    monkeypatch.setattr(polygons, "_MANY_PARTS", many)
    mask = any_mask(seed)
    if mask.any():
        assert drawn(joined(pixel_polygons(mask)), mask.shape)[mask].all()


def test_distances_are_computed_piece_by_piece(monkeypatch):
    mask = np.zeros((40, 60), bool)
    mask[5:20, 5:20] = mask[25:35, 30:55] = True
    whole = joined(pixel_polygons(mask))
    monkeypatch.setattr(polygons, "_AT_ONCE", 3)
    np.testing.assert_array_equal(joined(pixel_polygons(mask)), whole)


def test_a_line_from_corner_to_corner():
    mask = np.zeros((4, 9), bool)
    mask[1:3, 1:3] = mask[1:3, 6:8] = True
    only_line = drawn(joined(pixel_polygons(mask)), mask.shape).astype(bool) & ~mask
    assert only_line.sum() == 3


def test_nothing():
    assert edge_polygons(np.zeros((3, 4), bool)) == []
