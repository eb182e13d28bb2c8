"""The pieces behind the page."""

import numpy as np
import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.histogram import Histogram
from qsam2_deploy.calibration.statistics import LayerStatistics
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.quant.quantizers.grid import Grid
from qsam2_deploy.report.layers import (
    ErrorMeter,
    block_of,
    clip_range,
    layer_rows,
    vrc_numbers,
    weight_error,
)
from qsam2_deploy.report.sweep import RATIOS, SweepWidths, lambda_sweep
from qsam2_deploy.report.weights import distributions, input_histogram, weight_histogram

OTHER_GRIDS = {"weight_grid": "midrise", "input_grid": "affine"}


def make_layer(bits=3, reach=1.5, **plan):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 12))
    layer = quantize_layers(model, {"0": LayerPlan(bits, bits, **plan)})["0"]
    rows = layer.weight_rows().detach()
    layer.weight_quantizer.warm_start(reach * rows.std(1), rows.std(1), rows.mean(1))
    one = torch.tensor(1.0)
    layer.input_quantizer.warm_start(1.2 * one, one, 0 * one, -0.9 * one)
    return layer.eval()


def test_the_range_is_that_of_the_levels():
    layer = make_layer()
    low, high = clip_range(layer.weight_quantizer)
    step = layer.weight_quantizer.scale[:, None]
    assert torch.equal(low, -4 * step)
    assert torch.equal(high, 3 * step)
    low, high = clip_range(layer.input_quantizer)
    assert (float(low), float(high)) == pytest.approx((-1.6, 1.2))


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_errors_and_clips_on_other_grids(granularity):
    layer = make_layer(**OTHER_GRIDS, granularity=granularity, reach=1.2)
    rows, step = layer.weight.detach(), layer.weight_quantizer.scale[:, None]
    cells = torch.floor(rows / step)
    changed = (cells.clamp(-4, 3) + 0.5) * step
    found = weight_error(layer)
    assert found.error == pytest.approx(float((changed - rows).norm() / rows.norm()), rel=1e-5)
    outside = ((cells < -4) | (cells > 3)).double().mean()
    assert found.clipped == pytest.approx(float(outside), abs=1e-9)
    assert 0.02 < found.clipped < 0.5
    x, meter = torch.randn(50, 40), ErrorMeter()
    meter.add(layer.input_quantizer, x)
    # Eight levels from -0.9 to 1.2: steps of 0.3, and zero is the fourth.
    codes = torch.round(x / 0.3)
    inside = codes.clamp(-3, 4) * 0.3
    assert meter.result().error == pytest.approx(float((inside - x).norm() / x.norm()), rel=1e-4)
    clipped = ((codes < -3) | (codes > 4)).double().mean()
    assert meter.result().clipped == pytest.approx(float(clipped))
    assert layer_rows({"a": layer}, {}, {})[0].grids == "midrise/affine"


def test_histograms_of_other_grids():
    layer = make_layer(**OTHER_GRIDS)
    found = weight_histogram(layer)
    assert (found.low, found.high, found.levels) == (-3.5, 3.5, 8)
    histogram, x = Histogram(), torch.randn(4000)
    histogram.add(x, float(x.abs().max()))
    found = input_histogram(layer, histogram.centres().numpy(), histogram.counts.numpy())
    assert (found.low, found.high, found.levels) == (
        pytest.approx(-0.9), pytest.approx(1.2), 8
    )  # fmt: skip


def test_batches_add_up():
    layer, x = make_layer(), torch.randn(50, 40) * 2
    whole, parts = ErrorMeter(), ErrorMeter()
    whole.add(layer.input_quantizer, x)
    for part in x.split(7):
        parts.add(layer.input_quantizer, part)
    assert parts.result().error == pytest.approx(whole.result().error)
    assert parts.result().clipped == whole.result().clipped
    codes = torch.round(x / 0.4)
    assert whole.result().clipped == pytest.approx(
        float(((codes < -4) | (codes > 3)).double().mean())
    )
    assert 0.1 < whole.result().clipped < 0.9


def test_zeros_have_no_error():
    layer = make_layer()
    with torch.no_grad():
        layer.weight.zero_()
    assert (weight_error(layer).error, weight_error(layer).clipped) == (0.0, 0.0)


def test_histograms_hold_all_values():
    layer = make_layer()
    found = weight_histogram(layer)
    assert (found.low, found.high, found.levels) == (pytest.approx(-4), pytest.approx(3), 8)
    assert found.shares.sum() == pytest.approx(100)
    inside = (found.edges[:-1] >= -4.5) & (found.edges[1:] <= 3.5)
    assert found.shares[~inside].sum() > 0  # clips of 1.5 deviations cut something off
    histogram, x = Histogram(), torch.randn(4000)
    histogram.add(x, float(x.abs().max()))
    found = input_histogram(layer, histogram.centres().numpy(), histogram.counts.numpy())
    assert (found.low, found.high) == (pytest.approx(-1.6), pytest.approx(1.2))
    assert found.shares.sum() == pytest.approx(100)


def test_an_input_that_is_always_zero_has_a_histogram():
    histogram = Histogram()
    histogram.add(torch.zeros(10), 0.0)
    found = input_histogram(make_layer(), histogram.centres().numpy(), histogram.counts.numpy())
    assert found.shares.sum() == pytest.approx(100)


def test_distributions_pool_the_layers_of_a_block():
    blocks = "image_encoder.trunk.blocks"
    weights = {f"{blocks}.0.a": torch.randn(30, 5), f"{blocks}.0.b": 3 * torch.randn(8, 5),
               f"{blocks}.12.a": torch.randn(9, 9)}  # fmt: skip
    first, second = distributions(weights)
    pooled = np.concatenate([w.numpy().ravel() for w in list(weights.values())[:2]])
    assert (first.block, second.block) == ("block 0", "block 12")
    assert first.std == pytest.approx(pooled.std(), rel=1e-6)
    assert first.absmax == np.abs(pooled).max()
    assert first.quantiles[2] == pytest.approx(np.median(pooled))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("image_encoder.trunk.blocks.11.mlp.layers.0", "block 11"),
        ("image_encoder.trunk.patch_embed.proj", "patch embedding"),
        ("image_encoder.neck.convs.0.conv", "neck"),
        ("memory_attention.layers.3.linear1", "memory attention 3"),
        ("memory_encoder.out_proj", "memory encoder"),
        ("sam_mask_decoder.conv_s0", "mask decoder"),
        ("obj_ptr_proj.layers.0", "obj ptr proj"),
    ],
)
def test_blocks(name, block):
    assert block_of(name) == block


@pytest.mark.parametrize("reports", [None, [], {}, {"a": 3}, {"b": {}}])
def test_an_entry_may_say_nothing_about_a_layer(reports):
    assert vrc_numbers(reports, "a") is None


@pytest.mark.parametrize("grids", [("symmetric", "symmetric"), ("midrise", "affine")])
def test_errors_against_lambda_are_those_of_the_ridge_solution(grids):
    torch.manual_seed(1)
    mixing = torch.randn(16, 16) * torch.logspace(0, -3, 16)
    x, held = (torch.randn(count, 16) @ mixing for count in (300, 100))
    weight = torch.randn(10, 16)
    statistics = LayerStatistics(
        gram=torch.zeros(16, 16, dtype=torch.float64),
        heldout_gram=torch.zeros(16, 16, dtype=torch.float64),
    )
    statistics.add(x, heldout=False)
    statistics.add(held, heldout=True)
    widths = SweepWidths(*(Grid(4, kind) for kind in grids))
    sweep = lambda_sweep(weight, statistics, widths, {"vrc": "trace", "vrc_lambda": 0.01})
    assert sweep.chosen == pytest.approx(0.01)
    gram = x.double().numpy().T @ x.double().numpy()
    outputs = held.double().numpy() @ weight.double().numpy().T
    for place in (4, 8, 12):
        lam = RATIOS[place] * np.trace(gram) / 16
        solved = np.linalg.solve(gram + lam * np.eye(16), gram @ weight.double().numpy().T)
        error = np.linalg.norm(held.double().numpy() @ solved - outputs) / np.linalg.norm(outputs)
        assert sweep.output_error[place] == pytest.approx(error, rel=1e-3)
    assert list(sweep.output_error) == sorted(sweep.output_error)
    assert sweep.weight_error[0] > 1.2 * sweep.weight_error[-1] > 0  # narrower weights
    assert all(t >= o for t, o in zip(sweep.total_error, sweep.output_error, strict=True))
    assert lambda_sweep(weight, statistics, widths, {"vrc": "none"}).chosen is None
