"""Clips are those of least squared error."""

import numpy as np
import pytest
import torch

from qsam2_deploy.calibration.clip import (
    histogram_clip,
    histogram_range,
    histogram_step,
    weight_clip,
    weight_quantization_error,
)
from qsam2_deploy.calibration.histogram import Histogram
from qsam2_deploy.quant.quantizers.affine import affine_step, affine_zero_point
from qsam2_deploy.quant.quantizers.grid import AFFINE, Grid, dequantize, fake_quantize, quantize
from qsam2_deploy.quant.quantizers.lsc import GAUSSIAN_ALPHA


def _error(values: torch.Tensor, clip: float, grid: Grid) -> float:
    step = torch.tensor(clip / grid.qmax)
    return float((dequantize(quantize(values, step, grid), step) - values).square().sum())


def _heavy_tailed(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_t(4, shape)
    return torch.from_numpy(values).float()


@pytest.mark.parametrize("width", [2, 4, 8])
def test_weight_clips_beat_a_fine_search(width):
    weight, grid = _heavy_tailed((6, 300)), Grid(width)
    clips = weight_clip(weight, grid)
    for row, clip in zip(weight, clips, strict=True):
        candidates = np.geomspace(0.2, float(row.abs().max()), 400)
        best = min(_error(row, float(c), grid) for c in candidates)
        assert _error(row, float(clip), grid) <= 1.05 * best
        assert float(clip) <= float(row.abs().max()) * 1.0001


@pytest.mark.parametrize("width", [2, 3, 4, 6, 8])
def test_gaussian_values_give_the_gaussian_clip(width):
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    histogram = Histogram()
    for part in x.split(20_000):
        histogram.add(part, float(part.abs().max()))
    assert histogram_clip(histogram, Grid(width)) == pytest.approx(GAUSSIAN_ALPHA[width], rel=0.04)


@pytest.mark.parametrize("width", [4, 8])
def test_histogram_clips_are_as_good_as_exact_ones(width):
    x, grid, histogram = _heavy_tailed((50_000,)), Grid(width), Histogram()
    histogram.add(x, float(x.abs().max()))
    exact = float(weight_clip(x[None], grid)[0])
    found = histogram_clip(histogram, grid)
    assert _error(x, found, grid) <= 1.01 * _error(x, exact, grid)


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.3])
def test_ranges_of_one_sided_values_beat_a_coarse_search(width, shift):
    x = torch.nn.functional.gelu(2 * _heavy_tailed((20_000,))) + shift
    grid, histogram = Grid(width, AFFINE), Histogram()
    histogram.add(x, float(x.abs().max()))

    def error(low: float, high: float) -> float:
        ends = torch.tensor(low), torch.tensor(high)
        step = affine_step(*ends, grid)
        zero_point = affine_zero_point(ends[0], step, grid)
        return float((fake_quantize(x, step, grid, zero_point) - x).square().sum())

    low, high = histogram_range(histogram, grid)
    assert low <= 0 <= high
    shares = np.geomspace(0.03, 1, 20)
    smallest, largest = min(float(x.min()), 0.0), float(x.max())
    best = min(error(smallest * a, largest * b) for a in shares for b in shares)
    assert error(low, high) <= 1.05 * best
    symmetric = histogram_clip(histogram, Grid(width))
    assert error(low, high) < _error(x, symmetric, Grid(width))
    assert histogram_step(histogram, grid) == pytest.approx((high - low) / (2**width - 1))


def test_ranges_without_values_on_a_side():
    for sign in (1.0, -1.0):
        x, histogram = sign * (torch.rand(500) + 0.1), Histogram()
        histogram.add(x, float(x.abs().max()))
        low, high = histogram_range(histogram, Grid(4, AFFINE))
        assert (low, high)[sign > 0] == pytest.approx(sign * 1.1, rel=0.05)
        assert (low, high)[sign < 0] == 0.0
    histogram = Histogram()
    assert histogram_range(histogram, Grid(4, AFFINE)) == (0.0, 0.0)
    histogram.add(torch.zeros(4), 0.0)
    assert histogram_range(histogram, Grid(4, AFFINE)) == (0.0, 0.0)
    assert histogram_step(histogram, Grid(4)) == 0.0


def test_zeros_need_no_clip():
    weight = torch.zeros(2, 5)
    weight[1] = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.0])
    clips = weight_clip(weight, Grid(8))
    assert clips[0] == 0
    assert clips[1] > 0
    histogram = Histogram()
    assert histogram_clip(histogram, Grid(8)) == 0.0
    histogram.add(torch.zeros(4), 0.0)
    assert histogram_clip(histogram, Grid(8)) == 0.0
    assert weight_quantization_error(torch.zeros(2, 3), Grid(4)) == 0.0


def test_equal_values_are_represented_exactly_enough():
    weight = torch.full((1, 9), 0.7)
    assert weight_quantization_error(weight, Grid(8)) < 0.005


def test_more_bits_mean_less_error():
    weight = _heavy_tailed((4, 200))
    errors = [weight_quantization_error(weight, Grid(width)) for width in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02
