"""The formulas of the methods that others proposed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.start import start_from_statistics, start_weights
from qsam2_deploy.calibration.statistics import collect_statistics
from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.layers.layer_plan import LayerPlan
from qsam2_deploy.quant.layers.modules import quantization_penalty, quantize_layers
from qsam2_deploy.quant.quantizers.grid import AFFINE, MIDRISE, SYMMETRIC, Grid, quantize
from qsam2_deploy.quant.quantizers.learned_clip import STARTS
from qsam2_deploy.quant.quantizers.lsq import LSQQuantizer
from qsam2_deploy.quant.quantizers.lsq_plus import LSQPlusQuantizer
from qsam2_deploy.quant.quantizers.pact import PACTQuantizer
from qsam2_deploy.quant.quantizers.quantizer import make_quantizer
from qsam2_deploy.quant.quantizers.sawb import COEFFICIENTS, SAWBQuantizer
from qsam2_deploy.quant.quantizers.statsq import StatsQuantizer


def _rows(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 400, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("width", [2, 4, 8])
def test_lsq_starts_from_the_mean_magnitude(width):
    quantizer, w = LSQQuantizer(Grid(width), 3), _rows()
    quantizer(w)
    Q = 2 ** (width - 1) - 1
    np.testing.assert_allclose(quantizer.scale, 2 * w.abs().mean(1) / math.sqrt(Q), rtol=1e-5)
    first = quantizer.scale
    quantizer(9 * w)
    assert torch.equal(quantizer.scale, first)


def test_lsq_gradient_equals_the_naive_formula():
    quantizer, w, upstream = LSQQuantizer(Grid(3), 3), _rows(), _rows().flip(1)
    quantizer.warm_start(torch.tensor([0.9, 1.2, 1.5]), torch.ones(3), torch.zeros(3))
    quantizer(w).backward(upstream)
    s = quantizer.scale.numpy()[:, None]
    v = w.numpy() / s
    inside = (v >= -4) & (v <= 3)
    assert 0.01 < (~inside).mean() < 0.5
    d_step = np.where(inside, np.round(v) - v, np.where(v < 0, -4, 3)) * upstream.numpy()
    # What is learned is log(step), so the chain rule adds a factor of the step.
    expected = d_step.sum(1) * s[:, 0] / math.sqrt(400 * 3)
    np.testing.assert_allclose(quantizer.log_factor.grad, expected, rtol=1e-4)


def test_lsq_plus_starts_weights_three_deviations_wide():
    quantizer, w = LSQPlusQuantizer(Grid(4), 3), _rows() + 0.3
    quantizer(w)
    reach = (w.mean(1).abs() + 3 * w.std(1, correction=0)) / 8
    np.testing.assert_allclose(quantizer.scale, reach, rtol=1e-5)


@pytest.mark.parametrize("method", ["lsq", "lsq+", "pact"])
def test_learned_clips_start_from_extremes_if_asked_to(method):
    w = _rows() - 0.4
    quantizer = make_quantizer(method, 4, 3, start_from="extremes")
    quantizer(w)
    np.testing.assert_allclose(quantizer.scale, w.abs().amax(1) / 7, rtol=1e-5)
    assert quantizer.options == {"start_from": "extremes"}


def test_an_affine_range_starts_from_both_extremes():
    quantizer, x = LSQPlusQuantizer(Grid(4, AFFINE), start_from="extremes"), _rows().abs() - 0.1
    quantizer(x)
    np.testing.assert_allclose(quantizer.scale, (x.max() - x.min()) / 15, rtol=1e-5)


@pytest.mark.parametrize("start", STARTS)
def test_calibration_starts_where_it_is_asked_to(start):
    model, x = nn.Sequential(nn.Linear(64, 8)), torch.randn(200, 64)
    statistics = collect_statistics(model, {"0": model[0]}, [x], count=1, grams=False)["0"]
    options = {"start_from": start}
    plan = LayerPlan(4, 4, method="lsq", weight_options=options, input_options=options)
    layer = quantize_layers(model, {"0": plan})["0"]
    start_weights(layer)
    start_from_statistics(layer.input_quantizer, statistics)
    largest = layer.weight_rows().detach().abs().amax(1)
    weights = np.isclose(layer.weight_quantizer.scale, largest / 7)
    inputs = np.isclose(layer.input_quantizer.scale, x.abs().max() / 7)
    assert weights.all() == inputs == (start == "extremes")
    own = 2 * layer.weight_rows().detach().abs().mean(1) / math.sqrt(7)
    assert np.isclose(layer.weight_quantizer.scale, own).all() == (start == "own")


def test_lsq_plus_gradients_equal_the_naive_formulas():
    """With an offset that is a multiple of the step, its rounding changes nothing."""
    quantizer = LSQPlusQuantizer(Grid(3, AFFINE))
    step, beta = 0.25, -0.5
    quantizer.warm_start(
        torch.tensor(beta + 7 * step), torch.tensor(1.0), torch.tensor(0.0), torch.tensor(beta)
    )
    quantizer.frozen = True
    x, upstream = _rows(), _rows().flip(1)
    leaf = x.clone().requires_grad_()
    quantizer(leaf).backward(upstream)

    v, g = (x.numpy() - beta) / step, upstream.numpy()
    inside = (v >= 0) & (v <= 7)
    assert 0.1 < (~inside).mean() < 0.9
    d_step = (np.where(inside, np.round(v) - v, np.where(v < 0, 0, 7)) * g).sum()
    d_beta = (np.where(inside, 0.0, 1.0) * g).sum()
    share = 1 / math.sqrt(x.numel() * 7)
    width = 7 * step
    np.testing.assert_allclose(quantizer.log_factor.grad, d_step * step * share, rtol=1e-3)
    np.testing.assert_allclose(quantizer.shift.grad, d_beta * width * share, rtol=1e-3)
    np.testing.assert_array_equal(leaf.grad, g * inside)


def test_lsq_plus_learns_an_offset():
    x = torch.rand(4000, generator=torch.Generator().manual_seed(0)) * 3 - 0.9
    quantizer = LSQPlusQuantizer(Grid(4, AFFINE))
    quantizer.warm_start(
        torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.0), torch.tensor(-2.0)
    )
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (quantizer(x) - x).square().sum().backward()
        optimizer.step()
    zero = quantizer.zero_point
    assert zero is not None
    low = float(quantizer.scale * (-8 - zero))
    assert low == pytest.approx(-0.9, abs=0.2)
    assert float(quantizer.scale) == pytest.approx(3 / 16, rel=0.15)


@pytest.mark.parametrize(("kind", "low"), [(SYMMETRIC, None), (AFFINE, 0.0), (AFFINE, -0.5)])
def test_pact_learns_from_clipped_values_alone(kind, low):
    quantizer, x, upstream = PACTQuantizer(Grid(4, kind)), _rows(), _rows().flip(1)
    alpha = 1.25 if low is None else 1.25 - low
    lower = None if low is None else torch.tensor(low)
    quantizer.warm_start(torch.tensor(1.25), torch.tensor(1.0), torch.tensor(0.0), lower)
    quantizer.frozen = True
    quantizer(x).backward(upstream)

    scale = quantizer.scale
    zero = quantizer.zero_point
    lowest, highest = (float(limit * scale) for limit in quantizer.grid.limits(zero))
    v, g = x.numpy(), upstream.numpy()
    # The lower end of the signed grid is a step further away.
    reach = np.where(v > highest, highest, np.where(v < lowest, lowest, 0.0)) / alpha
    np.testing.assert_allclose(quantizer.log_factor.grad, (reach * g).sum() * alpha, rtol=1e-3)
    if low == 0.0:
        assert lowest == 0.0
        assert highest == pytest.approx(1.25)
    before = quantizer.zero_point
    with torch.no_grad():
        quantizer.log_factor += 0.7
    assert (before is None) == (kind == SYMMETRIC)
    assert before is None or torch.equal(quantizer.zero_point, before)


def test_the_penalty_of_a_model_is_that_of_its_thresholds():
    model = torch.nn.ModuleList([PACTQuantizer(Grid(4)) for _ in range(2)])
    model.append(LSQQuantizer(Grid(4)))
    zero = torch.tensor(0.0)
    for quantizer, clip in zip(model, (2.0, 3.0, 5.0), strict=True):
        quantizer.warm_start(torch.tensor(clip), zero, zero)
    penalty = quantization_penalty(model)
    assert float(penalty.detach()) == pytest.approx(13.0)
    penalty.backward()
    assert float(model[1].log_factor.grad) == pytest.approx(18.0)
    assert float(quantization_penalty(torch.nn.Linear(2, 2))) == 0.0


def _densities() -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = torch.linspace(1e-4, 14.0, 30001, dtype=torch.float64)
    von_mises = torch.where(x <= math.pi, torch.exp(torch.cos(x)), torch.zeros_like(x))
    found = [
        torch.exp(-x.square() / 2),
        torch.exp(-x),
        torch.exp(-x) / (1 + torch.exp(-x)).square(),
        (x <= 1).double(),
        (1 - x).clamp_min(0),
        von_mises,
    ]
    return x, [density / density.sum() for density in found]


@pytest.mark.parametrize("width", [2, 3, 4])
def test_sawb_clips_are_near_the_best_of_six_distributions(width):
    x, densities = _densities()
    grid = Grid(width, MIDRISE)

    def error(density: torch.Tensor, clip: float) -> float:
        step = torch.tensor(clip / grid.clip_steps, dtype=torch.float64)
        return float((density * (quantize(x, step, grid) * step - x).square()).sum())

    c1, c2 = COEFFICIENTS[width]
    for density in densities:
        mean_abs, rms = float(density @ x), math.sqrt(float(density @ x.square()))
        best = min(error(density, float(c)) for c in np.geomspace(0.5 * rms, 14, 60))
        assert error(density, c1 * rms - c2 * mean_abs) < 1.6 * best


@pytest.mark.parametrize("kind", [SYMMETRIC, MIDRISE])
def test_sawb_has_one_step_on_both_grids(kind):
    quantizer, w = SAWBQuantizer(Grid(2, kind), 3), _rows()
    quantizer(w)
    alpha = 3.12 * w.square().mean(1).sqrt() - 2.064 * w.abs().mean(1)
    np.testing.assert_allclose(quantizer.scale, alpha / 1.5, rtol=1e-5)
    quantizer(5 * w)
    np.testing.assert_allclose(quantizer.scale, 5 * alpha / 1.5, rtol=1e-5)


def test_sawb_of_wide_codes_covers_everything():
    quantizer, w = SAWBQuantizer(Grid(8), 3), _rows()
    quantizer(w)
    np.testing.assert_allclose(quantizer.scale, w.abs().amax(1) / 127.5, rtol=1e-5)


def test_sawb_of_equal_magnitudes_has_a_step():
    quantizer = SAWBQuantizer(Grid(4, MIDRISE), 1)
    w = torch.tensor([[0.5, -0.5, 0.5, 0.5]])
    np.testing.assert_allclose(quantizer(w), w, rtol=1e-6)


@pytest.mark.parametrize("width", [2, 4])
def test_statsq_is_that_of_the_present_weights(width):
    quantizer, w = StatsQuantizer(Grid(width, MIDRISE), 3), _rows()
    for factor in (1, 7):
        quantizer(factor * w)
        expected = factor * 2 * w.abs().mean(1) / 2 ** (width - 1)
        np.testing.assert_allclose(quantizer.scale, expected, rtol=1e-5)


@pytest.mark.parametrize(("method", "passes"), [("statsq", True), ("sawb", False)])
def test_gradients_of_weights_beyond_the_clip(method, passes):
    """OFQ's code lets them through; SAWB's (not SAWB+) is that of a clip."""
    quantizer = make_quantizer(method, 2, 3, grid=MIDRISE)
    w, upstream = _rows().requires_grad_(), _rows().flip(1)
    y = quantizer(w)
    assert y.requires_grad
    assert torch.equal(y, make_quantizer(method, 2, 3, grid=MIDRISE)(w.detach()))
    y.backward(upstream)
    outermost = quantizer.scale[:, None] * 1.5
    outside = w.detach().abs() > outermost
    assert 0.01 < outside.double().mean() < 0.5
    expected = upstream if passes else upstream * ~outside
    assert torch.equal(w.grad, expected)


@pytest.mark.parametrize(
    ("settings", "weight", "inputs"),
    [
        ({}, ("lsc", SYMMETRIC), ("lsc", SYMMETRIC)),
        ({"method": "pact"}, ("sawb", MIDRISE), ("pact", SYMMETRIC)),
        ({"method": "statsq"}, ("statsq", MIDRISE), ("lsq", SYMMETRIC)),
        ({"method": "lsq+"}, ("lsq+", SYMMETRIC), ("lsq+", AFFINE)),
        ({"method": "statsq", "input_method": "lsc"}, ("statsq", MIDRISE), ("lsc", SYMMETRIC)),
        ({"weight_grid": MIDRISE, "input_grid": AFFINE}, ("lsc", MIDRISE), ("lsc", AFFINE)),
        ({"weight_bits": 8, "method": "statsq"}, ("statsq", SYMMETRIC), ("lsq", SYMMETRIC)),
    ],
)
def test_what_a_plan_stands_for(settings, weight, inputs):
    plan = LayerPlan(**{"weight_bits": 4, "input_bits": 8, **settings})
    assert (plan.weight.method, plan.weight.grid.kind) == weight
    assert (plan.inputs.method, plan.inputs.grid.kind) == inputs
    assert plan.weight.make(5).channels == 5
    assert plan.inputs.make().grid.bits == 8


def test_grids_that_a_plan_refuses():
    with pytest.raises(InputError, match="grid of weights must be one of symmetric, midrise, but"):
        LayerPlan(4, 4, weight_grid=AFFINE)
    with pytest.raises(InputError, match="grid of activations must be one of symmetric, affine"):
        LayerPlan(4, 4, input_grid=MIDRISE)
    with pytest.raises(InputError, match="granularity must be one of channel, tensor, but got"):
        LayerPlan(4, 4, granularity="group")
