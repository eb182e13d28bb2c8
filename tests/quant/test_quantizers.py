"""What every quantizer does, and the mathematics of LSC."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qsam2_deploy.errors import InputError
from qsam2_deploy.quant import lsc, minmax  # noqa: F401  (they register themselves)
from qsam2_deploy.quant.grid import MIN_SCALE, Grid, dequantize, quantize
from qsam2_deploy.quant.lsc import GAUSSIAN_ALPHA, LSCQuantizer
from qsam2_deploy.quant.minmax import MinMaxQuantizer
from qsam2_deploy.quant.quantizer import make_quantizer, quantizer_names, round_to_half

METHODS = ("lsc", "minmax")


def _data(seed: int = 0, rows: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 200, generator=generator) * torch.arange(1, rows + 1)[:, None]


def test_the_registry() -> None:
    assert quantizer_names() == METHODS
    with pytest.raises(InputError, match="expected one of lsc, minmax"):
        make_quantizer("magic", 8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [None, 6])
def test_forward_uses_exactly_the_scale_property(method: str, channels: int | None) -> None:
    quantizer, x = make_quantizer(method, 4, channels), _data()
    for mode in (True, False):
        quantizer.train(mode)
        y = quantizer(x)
        scale = quantizer.scale
        assert scale.shape == (() if channels is None else (channels,))
        assert scale.dtype == torch.float32
        step = scale if channels is None else scale[:, None]
        assert torch.equal(y, dequantize(quantize(x, step, quantizer.grid), step))


@pytest.mark.parametrize("method", METHODS)
def test_steps_in_half_precision(method: str) -> None:
    quantizer, x = make_quantizer(method, 4, 6), _data()
    whole = quantizer.train()(x)
    step = quantizer.scale
    quantizer.eval().half_step = True
    rounded = quantizer.scale
    assert torch.equal(rounded, step.half().float())
    assert 0 < (rounded / step - 1).abs().max() < 2**-11
    assert torch.equal(
        quantizer(x), dequantize(quantize(x, rounded[:, None], quantizer.grid), rounded[:, None])
    )
    assert not torch.equal(quantizer(x), whole)


def test_rounding_to_half_lets_the_gradient_through() -> None:
    x = torch.tensor([1e-7, 0.1, 3.14159], requires_grad=True)
    y = round_to_half(x)
    assert torch.equal(y, x.detach().half().float())
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(3))


@pytest.mark.parametrize("method", METHODS)
def test_statistics_move_only_in_training(method: str) -> None:
    quantizer = make_quantizer(method, 8)
    quantizer(_data())
    first = quantizer.scale
    assert torch.isfinite(first)
    quantizer(10 * _data(1))
    moved = quantizer.scale
    assert moved > first
    quantizer.frozen = True
    quantizer(100 * _data(2))
    assert torch.equal(quantizer.scale, moved)
    quantizer.frozen = False
    quantizer.eval()
    quantizer(100 * _data(3))
    assert torch.equal(quantizer.scale, moved)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [2, 4, 8])
def test_warm_start_sets_the_clip(method: str, width: int) -> None:
    quantizer = make_quantizer(method, width, 3)
    clip = torch.tensor([0.5, 2.0, 7.0])
    quantizer.warm_start(clip, torch.tensor([0.2, 1.0, 0.0]), torch.zeros(3))
    np.testing.assert_allclose(quantizer.scale, clip / Grid(width).qmax, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_channel_gets_the_smallest_step(method: str) -> None:
    quantizer = make_quantizer(method, 8, 2)
    quantizer.warm_start(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]), torch.zeros(2))
    quantizer.eval()
    assert quantizer.scale[0] == MIN_SCALE
    x = torch.stack([torch.zeros(4), torch.ones(4)])
    assert torch.equal(quantizer(x)[0], x[0])


@pytest.mark.parametrize("method", METHODS)
def test_without_statistics_there_is_no_step(method: str) -> None:
    assert torch.isnan(make_quantizer(method, 8).scale)


def test_running_statistics_follow_the_formula() -> None:
    quantizer = LSCQuantizer(Grid(4), momentum=0.9)
    batches = [_data(seed) for seed in range(3)]
    sigma = mu = math.nan
    for x in batches:
        quantizer(x)
        std, mean = float(x.double().std(correction=0)), float(x.double().mean())
        sigma = std if math.isnan(sigma) else 0.9 * sigma + 0.1 * std
        mu = mean if math.isnan(mu) else 0.9 * mu + 0.1 * mean
    assert float(quantizer.sigma) == pytest.approx(sigma, rel=1e-5)
    assert float(quantizer.mu) == pytest.approx(mu, abs=1e-6)
    alpha = GAUSSIAN_ALPHA[4]
    assert float(quantizer.scale) == pytest.approx(alpha * sigma / 7, rel=1e-5)


@pytest.mark.parametrize("channels", [None, 6])
@pytest.mark.parametrize("width", [2, 4])
def test_lsc_gradient_equals_the_naive_formula(width: int, channels: int | None) -> None:
    quantizer = LSCQuantizer(Grid(width), channels)
    x, upstream = _data(), _data(9)
    std, mean = torch.std_mean(x, dim=None if channels is None else 1, correction=0)
    alpha = torch.full_like(std, 1.3)
    quantizer.warm_start(alpha * std, std, mean)
    quantizer.frozen = True
    leaf = x.clone().requires_grad_()
    quantizer(leaf).backward(upstream)

    Q = Grid(width).qmax
    sigma = std.double().numpy().reshape(-1, 1)
    v = x.double().numpy() / (1.3 * sigma / Q)
    inside = (v >= -Q - 1) & (v <= Q)
    assert 0.05 < (~inside).mean() < 0.9
    level = np.where(v < 0, -Q - 1, Q)
    terms = (sigma / Q) * np.where(inside, np.round(v) - v, level) * upstream.double().numpy()
    n = x.numel() if channels is None else x.shape[1]
    d_alpha = (terms.sum() if channels is None else terms.sum(axis=1)) / math.sqrt(n * Q)
    # What is learned is log(alpha), so the chain rule adds a factor alpha.
    np.testing.assert_allclose(quantizer.log_alpha.grad.numpy(), 1.3 * d_alpha, rtol=1e-4)
    np.testing.assert_array_equal(leaf.grad.numpy(), upstream.numpy() * inside)


def test_lsc_learns_a_better_clip() -> None:
    x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    quantizer = LSCQuantizer(Grid(3))
    quantizer.warm_start(torch.tensor(6.0), x.std(), x.mean())
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (quantizer(x) - x).square().sum().backward()
        optimizer.step()
    alpha = float(quantizer.log_alpha.detach().exp())
    assert alpha == pytest.approx(GAUSSIAN_ALPHA[3], rel=0.1)


@pytest.mark.parametrize("width", [2, 3, 4, 8])
def test_the_gaussian_table_is_optimal(width: int) -> None:
    x = torch.linspace(-7, 7, 20001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2)

    def error(alpha: float) -> float:
        grid = Grid(width)
        step = torch.tensor(alpha / grid.qmax, dtype=torch.float64)
        return float((density * (dequantize(quantize(x, step, grid), step) - x).square()).sum())

    best = error(GAUSSIAN_ALPHA[width])
    assert best < error(0.97 * GAUSSIAN_ALPHA[width])
    assert best < error(1.03 * GAUSSIAN_ALPHA[width])


def test_minmax_covers_the_largest_magnitude() -> None:
    quantizer, x = MinMaxQuantizer(Grid(8), 6), _data()
    quantizer(x)
    np.testing.assert_allclose(quantizer.scale, x.abs().amax(dim=1) / 127, rtol=1e-6)
