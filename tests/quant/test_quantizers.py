"""What every quantizer does, whatever its method and grid, and the mathematics of LSC."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.layers import layer_plan  # noqa: F401  (all quantizers register themselves)
from qsam2_deploy.quant.quantizers.grid import (
    AFFINE,
    MIDRISE,
    MIN_SCALE,
    Grid,
    dequantize,
    quantize,
)
from qsam2_deploy.quant.quantizers.lsc import BALANCED_ALPHA, GAUSSIAN_ALPHA, LSCQuantizer
from qsam2_deploy.quant.quantizers.minmax import MinMaxQuantizer
from qsam2_deploy.quant.quantizers.quantizer import (
    Quantizer,
    make_quantizer,
    quantizer_class,
    quantizer_names,
    round_to_half,
)

METHODS = quantizer_names()
CASES = [(method, grid) for method in METHODS for grid in quantizer_class(method).grids]
EVERY = pytest.mark.parametrize(("method", "grid"), CASES)


def _data(seed: int = 0, rows: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 200, generator=generator) * torch.arange(1, rows + 1)[:, None]


def _on_grid(quantizer: Quantizer, x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` on the grid that the properties of ``quantizer`` describe."""
    column = (..., None) if quantizer.channels else ...
    zero = quantizer.zero_point
    zero = None if zero is None else zero[column]
    scale = quantizer.scale[column]
    return dequantize(quantize(x, scale, quantizer.grid, zero), scale)


def test_the_registry():
    assert METHODS == ("lsc", "lsq", "lsq+", "minmax", "pact", "sawb", "statsq")
    for method in METHODS:
        assert quantizer_class(method).method == method
    with pytest.raises(InputError, match="expected one of lsc, lsq, "):
        make_quantizer("magic", 8)
    with pytest.raises(InputError, match="no affine grid; expected midrise or symmetric"):
        make_quantizer("sawb", 8, grid=AFFINE)
    with pytest.raises(InputError, match="lsq has no option 'momentum'; its options are: start_"):
        make_quantizer("lsq", 8, momentum=0.5)
    for momentum in (1.0, -0.1, math.nan):
        with pytest.raises(InputError, match="momentum must be 0 or more and below 1, but got"):
            make_quantizer("lsc", 8, momentum=momentum)


@EVERY
@pytest.mark.parametrize("channels", [None, 6])
def test_forward_uses_exactly_the_properties(method, grid, channels):
    quantizer, x = make_quantizer(method, 4, channels, grid=grid), _data()
    for mode in (True, False):
        quantizer.train(mode)
        y = quantizer(x)
        scale = quantizer.scale
        assert scale.shape == (() if channels is None else (channels,))
        assert scale.dtype == torch.float32
        assert torch.isfinite(scale).all()
        assert (quantizer.zero_point is not None) == (grid == AFFINE)
        assert torch.equal(y, _on_grid(quantizer, x))


@EVERY
def test_steps_in_half_precision(method, grid):
    quantizer, x = make_quantizer(method, 4, 6, grid=grid), _data() / 3
    whole = quantizer.train()(x)
    step = quantizer.scale
    quantizer.eval().half_step = True
    rounded = quantizer.scale
    assert torch.equal(rounded, step.half().float())
    assert 0 < (rounded / step - 1).abs().max() < 2**-11
    assert torch.equal(quantizer(x), _on_grid(quantizer, x))
    assert not torch.equal(quantizer(x), whole)


@EVERY
def test_what_is_learned_is_a_parameter_with_a_gradient(method, grid):
    quantizer, x = make_quantizer(method, 3, 6, grid=grid), _data()
    values = quantizer._statistics(x)
    quantizer.warm_start(values.std, values.std, values.mean, -1.2 * values.std)
    quantizer.frozen = True
    leaf = x.clone().requires_grad_()
    (quantizer(leaf) - x).square().sum().backward()
    parameters = dict(quantizer.named_parameters())
    learned = {"lsc": {"log_alpha"}, "lsq": {"log_factor"}, "pact": {"log_factor"}}
    learned["lsq+"] = {"log_factor", "shift"} if grid == AFFINE else {"log_factor"}
    assert set(parameters) == learned.get(method, set())
    for parameter in parameters.values():
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad != 0).all()
    passing = (leaf.grad != 0).double().mean()
    assert passing > 0.95 if method == "statsq" else 0.5 < passing < 0.95


@EVERY
def test_state_is_restored_to_the_bit(method, grid):
    quantizer, x = make_quantizer(method, 4, 6, grid=grid), _data()
    for seed in range(3):
        quantizer(_data(seed))
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(1.1).add_(-0.05)
    again = make_quantizer(method, 4, 6, grid=grid, **quantizer.options)
    again.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    assert torch.equal(again.eval()(x), quantizer.eval()(x))
    assert torch.equal(again.scale, quantizer.scale)


def test_rounding_to_half_lets_the_gradient_through():
    x = torch.tensor([1e-7, 0.1, 3.14159], requires_grad=True)
    y = round_to_half(x)
    assert torch.equal(y, x.detach().half().float())
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(3))


@EVERY
def test_statistics_move_only_in_training(method, grid):
    quantizer = make_quantizer(method, 4, grid=grid)
    has_statistics = "momentum" in quantizer.option_names
    quantizer(_data())
    first = quantizer.scale
    assert torch.isfinite(first)
    quantizer(10 * _data(1))
    moved = quantizer.scale
    assert (moved > first) == has_statistics
    quantizer.frozen = True
    quantizer(100 * _data(2))
    assert torch.equal(quantizer.scale, moved)
    quantizer.frozen = False
    quantizer.eval()
    quantizer(100 * _data(3))
    assert torch.equal(quantizer.scale, moved)


@EVERY
@pytest.mark.parametrize("width", [2, 4, 8])
def test_warm_start_sets_the_clip(method, grid, width):
    if grid == MIDRISE and width == 8:
        pytest.skip("no mid-rise grid is so wide")
    quantizer = make_quantizer(method, width, 3, grid=grid)
    clip, std = torch.tensor([0.5, 2.0, 7.0]), torch.tensor([0.2, 1.0, 0.0])
    quantizer.warm_start(clip, std, torch.zeros(3))
    both = 2 if grid == AFFINE else 1
    expected = both * clip / Grid(width, grid).clip_steps
    np.testing.assert_allclose(quantizer.scale, expected, rtol=1e-6)
    if grid == AFFINE:
        quantizer.warm_start(clip, std, torch.zeros(3), torch.tensor([0.0, -2.0, -1.0]))
        expected = torch.tensor([0.5, 4.0, 8.0]) / (2**width - 1)
        # A side that no value lies on (the mean is 0) gets a small factor in LSC, not none.
        slack = 0.03 if method == "lsc" else 0.0
        np.testing.assert_allclose(quantizer.scale, expected, rtol=slack + 1e-6)
        zero = quantizer.zero_point
        assert zero is not None
        assert 0 <= zero[0] + 2 ** (width - 1) <= slack * 2**width
        assert abs(float(zero[1])) <= 1


@EVERY
def test_a_dead_channel_gets_the_smallest_step(method, grid):
    quantizer = make_quantizer(method, 4, 2, grid=grid)
    quantizer.warm_start(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]), torch.zeros(2))
    quantizer.eval()
    assert quantizer.scale[0] == MIN_SCALE
    assert quantizer.collapsed().tolist() == [True, False]
    x = torch.stack([torch.zeros(4), torch.ones(4)])
    # A mid-rise grid has no zero, but its smallest level is next to nothing.
    assert quantizer(x)[0].abs().max() <= (MIN_SCALE / 2 if grid == MIDRISE else 0)


@EVERY
def test_without_statistics_there_is_no_step(method, grid):
    assert torch.isnan(make_quantizer(method, 4, grid=grid).scale)


@EVERY
def test_a_clip_that_collapses_is_reported(method, grid):
    quantizer = make_quantizer(method, 4, 6, grid=grid)
    quantizer(_data())
    assert not quantizer.collapsed().any()
    learned: Any = list(quantizer.parameters())
    if not learned:
        quantizer.warm_start(torch.zeros(6), torch.zeros(6), torch.zeros(6))
        assert quantizer.collapsed().all()
        return
    with torch.no_grad():
        learned[0][2] = -30.0
    assert quantizer.collapsed().tolist() == [False, False, True, False, False, False]


def test_running_statistics_follow_the_formula():
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
def test_lsc_gradient_equals_the_naive_formula(width, channels):
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


def test_lsc_learns_a_better_clip():
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


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["symmetric", MIDRISE])
def test_the_gaussian_tables_are_optimal(width, kind):
    if kind == MIDRISE and width == 8:
        pytest.skip("no mid-rise grid is so wide")
    x = torch.linspace(-7, 7, 20001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2)
    optimum = (BALANCED_ALPHA if kind == MIDRISE else GAUSSIAN_ALPHA)[width]

    def error(alpha: float) -> float:
        grid = Grid(width, kind)
        step = torch.tensor(alpha / grid.clip_steps, dtype=torch.float64)
        return float((density * (dequantize(quantize(x, step, grid), step) - x).square()).sum())

    best = error(optimum)
    assert best < error(0.97 * optimum)
    assert best < error(1.03 * optimum)


def test_lsc_clips_each_side_of_an_affine_grid_on_its_own():
    quantizer, x = LSCQuantizer(Grid(4, AFFINE)), _data().abs() - 0.2
    std, mean = torch.std_mean(x, correction=0)
    quantizer.warm_start(torch.tensor(9.0), std, mean, torch.tensor(-0.2))
    np.testing.assert_allclose(quantizer.scale, 9.2 / 15, rtol=1e-6)
    assert quantizer.zero_point == -8
    before = quantizer.scale
    with torch.no_grad():
        quantizer.log_alpha[1] += math.log(1.5)
    upper = float(mean) + 1.5 * (9.0 - float(mean))
    np.testing.assert_allclose(quantizer.scale, (upper + 0.2) / 15, rtol=1e-5)
    assert quantizer.scale > before


@pytest.mark.parametrize("width", [2, 4])
def test_lsc_gradients_of_both_sides_equal_the_naive_formulas(width):
    """From ``s = (high - low) / Q`` and ``z = round(-low / s)``, rounded straight-through."""
    quantizer, x, upstream = LSCQuantizer(Grid(width, AFFINE)), _data() + 0.5, _data(9)
    std, mean = torch.std_mean(x, correction=0)
    quantizer.warm_start(mean + 1.1 * std, std, mean, mean - 0.9 * std)
    quantizer.frozen = True
    leaf = x.clone().requires_grad_()
    quantizer(leaf).backward(upstream)

    Q, v, g = 2**width - 1, x.double().numpy(), upstream.double().numpy()
    sigma, mu = float(std.double()), float(mean.double())
    low, high = mu - 0.9 * sigma, mu + 1.1 * sigma
    step = (high - low) / Q
    zero = round(-low / step)  # codes 0 ... Q
    levels = np.round(v / step)
    inside = (levels >= -zero) & (levels <= Q - zero)
    inside &= (v / step >= -zero) & (v / step <= Q - zero)
    assert 0.1 < (~inside).mean() < 0.6
    outermost = np.where(v / step < -zero, -zero, Q - zero)
    scaled = 1.0 / math.sqrt(x.numel() * Q)
    d_step = (g * np.where(inside, levels - v / step, outermost)).sum() * scaled
    d_zero = (g * np.where(inside, 0.0, -step)).sum() * scaled
    # s = (high - low) / Q and z = -low / s, so both depend on both thresholds.
    d_low = -d_step / Q + d_zero * (-1 / step - low / (step * step * Q))
    d_high = d_step / Q + d_zero * (low / (step * step * Q))
    expected = np.array([-0.9 * sigma * d_low, 1.1 * sigma * d_high])
    np.testing.assert_allclose(quantizer.log_alpha.grad.numpy(), expected, rtol=1e-3)
    np.testing.assert_array_equal(leaf.grad.numpy(), upstream.numpy() * inside)


def test_lsc_with_a_fixed_factor_learns_nothing():
    quantizer = LSCQuantizer(Grid(4), 6, learn_alpha=False, momentum=0.5)
    x = _data()
    quantizer(x)
    assert not list(quantizer.parameters())
    assert quantizer.options == {"momentum": 0.5, "learn_alpha": False}
    first = quantizer.scale
    quantizer(3 * x)
    np.testing.assert_allclose(quantizer.scale, 2 * first, rtol=1e-5)
    learning = LSCQuantizer(Grid(4), 6)
    learning.load_state_dict(quantizer.state_dict())
    assert torch.equal(learning.scale, quantizer.scale)


def test_minmax_covers_the_largest_magnitude():
    quantizer, x = MinMaxQuantizer(Grid(8), 6), _data()
    quantizer(x)
    np.testing.assert_allclose(quantizer.scale, x.abs().amax(dim=1) / 127, rtol=1e-6)


def test_minmax_covers_both_ends_of_an_affine_grid():
    quantizer, x = MinMaxQuantizer(Grid(8, AFFINE)), _data().abs()[:, 1:] + 0.5
    quantizer(x)
    # Zero is always within the range.
    np.testing.assert_allclose(quantizer.scale, x.max() / 255, rtol=1e-6)
    assert quantizer.zero_point == -128
    quantizer = MinMaxQuantizer(Grid(8, AFFINE))
    y = quantizer(torch.tensor([-1.0, 0.0, 3.0]))
    assert y[1] == 0
    np.testing.assert_allclose(y, [-1.0, 0.0, 3.0], atol=0.01)
