"""AdaRound, BRECQ and QDrop: lower block errors, ordinary results, nothing left behind."""

import copy
from typing import Any

import pytest
import torch

from qsam2_deploy.calibration.ptq import reconstruction
from qsam2_deploy.calibration.ptq.options import PtqOptions
from qsam2_deploy.calibration.ptq.reconstruction import Block, BrecqPtq, QDropPtq
from qsam2_deploy.calibration.ptq.rounding import SoftRounding
from qsam2_deploy.calibration.ptq.steps import LearnedStep
from qsam2_deploy.quant.quantizers.grid import fake_quantize

OPTIONS = PtqOptions(iterations=80, rounding_rate=0.1, step_rate=0.005)


def _reconstruct(block: Block, method: type[BrecqPtq | QDropPtq], **options: object) -> None:
    settings = PtqOptions(**{**OPTIONS.__dict__, **options})
    method(settings).reconstruct(block, torch.Generator().manual_seed(0))


GRIDS: list[dict[str, Any]] = [
    {},
    {"weight_grid": "midrise", "input_grid": "affine"},
    {"method": "sawb", "input_method": "lsq+", "granularity": "tensor"},
]


@pytest.mark.parametrize("plan", GRIDS)
def test_soft_rounding_starts_at_the_float_weight_and_ends_on_the_grid(tiny_block, plan):
    layer = tiny_block.quantized(4, 8, **plan).layers["0"]
    quantizer, rows = layer.weight_quantizer, layer.weight_rows()
    soft = SoftRounding(rows, quantizer)
    step = quantizer.scale[:, None]
    low, high = quantizer.grid.limits()
    inside = (rows / step >= low) & (rows / step <= high)
    assert float(inside.float().mean()) > 0.9
    difference = (soft(rows).detach() - rows).abs() / step
    assert float(difference[inside].max()) < 1e-3
    assert torch.equal(soft.hard(), quantizer(soft.hard()))
    # Undecided, the nearest code is taken.
    nearest = fake_quantize(rows, step, quantizer.grid)
    assert torch.equal(soft.hard(), nearest)
    # Decided, the soft weight is the hard one and the regulariser is zero.
    soft.v.data = torch.where(torch.rand_like(soft.v) < 0.5, 20.0, -20.0)
    assert torch.equal(soft(rows), soft.hard())
    assert soft.regulariser(2.0).item() == 0.0
    assert not torch.equal(soft.hard(), nearest)


@pytest.mark.parametrize("plan", GRIDS)
@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("method", [BrecqPtq, QDropPtq])
def test_a_reconstructed_block_is_closer_to_float(tiny_block, method, bits, plan):
    block = tiny_block.quantized(bits, 8, **plan)
    before = block.error()
    _reconstruct(block, method)
    assert block.error() < 0.8 * before


def test_learned_activation_steps_lower_the_error(tiny_block):
    """From steps that are far too large, with 8-bit weights, so that only the steps matter."""
    block = tiny_block.quantized(8, 3)
    for layer in block.layers.values():
        quantizer = layer.input_quantizer
        quantizer.warm_start(quantizer.scale * 3 * 2.5, torch.tensor(1.0), torch.tensor(0.0))
    before, steps = block.error(), [m.input_quantizer.scale for m in block.layers.values()]
    _reconstruct(block, BrecqPtq, step_rate=0.02)
    assert block.error() < 0.7 * before
    assert all(
        float(layer.input_quantizer.scale) < float(old)
        for layer, old in zip(block.layers.values(), steps, strict=True)
    )


@pytest.mark.parametrize("half", [False, True])
def test_the_result_is_an_ordinary_quantized_layer(tiny_block, half):
    block = tiny_block.quantized(3, 4, half_steps=half)
    before = {name: copy.deepcopy(layer) for name, layer in block.layers.items()}
    _reconstruct(block, QDropPtq)
    for name, layer in block.layers.items():
        assert type(layer.weight_quantizer) is type(before[name].weight_quantizer)
        assert type(layer.input_quantizer) is type(before[name].input_quantizer)
        assert torch.equal(layer.quantized_weight(), layer.weight)
        assert not torch.equal(layer.weight, before[name].quantized_weight())
        assert torch.equal(layer.weight_quantizer.scale, before[name].weight_quantizer.scale)
        assert float(layer.input_quantizer.scale) != float(before[name].input_quantizer.scale)
        form = layer.export_form()
        codes, scale = torch.from_numpy(form.weight_codes), torch.from_numpy(form.weight_scale)
        assert torch.equal(codes * scale[:, None], layer.weight)
        if half:
            scale = layer.input_quantizer.scale
            assert torch.equal(scale.half().float(), scale)


def test_nothing_is_dropped_at_evaluation(tiny_block):
    block = tiny_block.quantized(4, 2)
    layer, x = block.layers["0"], block.inputs[0]
    step = LearnedStep(layer, 0.5, torch.Generator().manual_seed(0))
    exact = fake_quantize(x, layer.input_quantizer.scale, layer.input_quantizer.grid)
    dropped = step(x)
    kept = float((dropped == exact).float().mean())
    assert 0.3 < kept < 0.8
    assert torch.equal(torch.where(dropped == exact, exact, x), dropped)
    step.eval()
    assert torch.equal(step(x), exact)
    _reconstruct(block, QDropPtq)
    first, second = block.module(x), block.module(x)
    assert torch.equal(first, second)
    quantizer = layer.input_quantizer
    assert torch.equal(quantizer(x), fake_quantize(x, quantizer.scale, quantizer.grid))


def test_the_same_seed_gives_the_same_codes(tiny_block):
    blocks = [tiny_block.quantized(2, 4) for _ in range(2)]
    for block in blocks:
        _reconstruct(block, QDropPtq, iterations=10)
    for name, layer in blocks[0].layers.items():
        other = blocks[1].layers[name]
        assert torch.equal(layer.weight, other.weight)
        assert torch.equal(layer.input_quantizer.scale, other.input_quantizer.scale)


def test_a_block_that_got_worse_is_put_back(tiny_block, monkeypatch):
    block = tiny_block.quantized(4, 8)
    before = {name: copy.deepcopy(layer.state_dict()) for name, layer in block.layers.items()}
    error = block.error()

    def spoil(self: BrecqPtq, block: Block, generator: torch.Generator) -> None:
        for layer in block.layers.values():
            layer.weight.data.mul_(-1)

    monkeypatch.setattr(BrecqPtq, "reconstruct", spoil)
    report = BrecqPtq(OPTIONS)._keep_if_better(block, torch.Generator())
    assert block.error() == error
    assert report["error_after"] == report["error_before"] > 0
    for name, layer in block.layers.items():
        assert all(torch.equal(layer.state_dict()[k], v) for k, v in before[name].items())


def test_beta_falls_from_20_to_2():
    values = [reconstruction._beta(share) for share in (0.2, 0.6, 1.0)]
    assert values == pytest.approx([20.0, 11.0, 2.0])


def test_a_learned_step_keeps_the_zero_point(tiny_block):
    """The inputs of the second layer lie behind a GELU, on one side."""
    block = tiny_block.quantized(4, 4, input_grid="affine")
    layer = block.layers["2"]
    before, zero_point = layer.input_quantizer.scale, layer.input_quantizer.zero_point
    assert zero_point is not None
    assert float(zero_point) < -2
    step = LearnedStep(layer)
    x = torch.randn(40, 9)
    assert torch.equal(step(x), layer.input_quantizer(x))
    with torch.no_grad():
        step.log_factor += 0.3
    expected = step(x)
    step.settle(layer, block.statistics["2"])
    assert torch.equal(layer.input_quantizer.zero_point, zero_point)
    torch.testing.assert_close(layer.input_quantizer.scale, before * 1.3498588)
    torch.testing.assert_close(layer.input_quantizer(x), expected)
