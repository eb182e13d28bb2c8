from collections.abc import Callable

import numpy as np
import pytest

from qsam2_deploy.tracking.resize import (
    bilinear_bands,
    resize_bilinear,
    resize_bilinear_antialias,
)

Resize = Callable[[np.ndarray, int, int], np.ndarray]
BOTH = pytest.mark.parametrize("resize", [resize_bilinear, resize_bilinear_antialias])


def test_doubling_by_hand():
    x = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(resize_bilinear(x, 1, 4), [[0, 0.25, 0.75, 1]])


def test_antialias_averages_by_hand():
    # Triangle of half width 2 around 1 on 4 pixels: weights 0.75 0.75 0.25 0 over 1.75.
    x = np.array([[7.0, 0.0, 0.0, 7.0]], np.float32)
    np.testing.assert_allclose(resize_bilinear_antialias(x, 1, 2), [[3, 3]], rtol=1e-6)


def test_without_antialias_shrinking_skips_pixels():
    x = np.zeros((1, 16), np.float32)
    x[0, 0] = 1
    assert not resize_bilinear(x, 1, 2).any()
    assert resize_bilinear_antialias(x, 1, 2).any()


@BOTH
@pytest.mark.parametrize("size", [(7, 5), (64, 40), (33, 70), (1, 1), (20, 30)])
def test_constant_stays_constant(resize, size):
    x = np.full((2, 1, 20, 30), -3.5, np.float32)
    result = resize(x, *size)
    assert (result.shape, result.dtype) == ((2, 1, *size), np.float32)
    np.testing.assert_allclose(result, -3.5, rtol=1e-6)


@BOTH
def test_same_size_is_an_exact_copy(resize):
    x = np.random.default_rng(0).standard_normal((3, 9, 7)).astype(np.float32)
    result = resize(x, 9, 7)
    np.testing.assert_array_equal(result, x)
    assert not np.shares_memory(result, x)


@BOTH
def test_axes_are_not_confused(resize):
    x = np.random.default_rng(1).standard_normal((40, 70)).astype(np.float32)
    np.testing.assert_allclose(resize(x, 90, 31), resize(x.T, 31, 90).T, atol=1e-6)


@BOTH
def test_a_linear_ramp_stays_linear_inside(resize):
    x = np.tile(np.arange(50, dtype=np.float32), (2, 1))
    result = resize(x, 2, 125)[0]
    expected = (np.arange(125) + 0.5) * 50 / 125 - 0.5
    np.testing.assert_allclose(result[3:-3], expected[3:-3], rtol=1e-5)


@BOTH
def test_leading_dimensions_are_independent(resize):
    x = np.random.default_rng(2).standard_normal((2, 3, 12, 10)).astype(np.float32)
    result = resize(x, 37, 5)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(result[index], resize(x[index], 37, 5), atol=1e-6)


@pytest.mark.parametrize("size", [(90, 131), (20, 30), (7, 5), (64, 4)])
def test_bands_are_the_part_that_a_window_touches(size: tuple[int, int]) -> None:
    x = np.zeros((20, 30), np.float32)
    window = slice(5, 9), slice(12, 20)
    x[window] = np.random.default_rng(2).random((4, 8))
    whole, rest = resize_bilinear(x, *size), resize_bilinear(x, *size)
    bands = [(row, column, band.copy()) for row, column, band in bilinear_bands(x, *size, window)]
    end = bands[0][0]
    for row, column, band in bands:
        assert row == end, "bands follow each other"
        end = row + len(band)
        place = slice(row, end), slice(column, column + band.shape[1])
        np.testing.assert_allclose(band, whole[place], rtol=1e-6, atol=1e-6)
        rest[place] = 0
    assert not rest.any()


def test_no_band_where_shrinking_skips_the_window() -> None:
    x = np.ones((4, 4000), np.float32)
    skipped = slice(0, 4), slice(3100, 3101)
    assert list(bilinear_bands(x, 4, 41, skipped)) == []
