"""Quantized layers: swapping, and the integers that leave for export."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from qsam2_deploy.errors import InputError, Qsam2Error
from qsam2_deploy.quant.layers.layer_plan import GRANULARITIES, WEIGHT_GRIDS
from qsam2_deploy.quant.layers.modules import (
    LayerPlan,
    QuantLinear,
    held_weights,
    quantize_layers,
    quantized_layers,
)
from qsam2_deploy.quant.quantizers.grid import MIN_SCALE
from qsam2_deploy.quant.quantizers.quantizer import quantizer_names


def _model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 5, bias=False))


def _trained_layer(weight_bits: int, method: str = "lsc", **plan: Any) -> QuantLinear:
    layer = quantize_layers(_model(), {"0": LayerPlan(weight_bits, 8, method, **plan)})["0"]
    layer.train()
    for seed in range(3):
        layer(torch.randn(7, 12, generator=torch.Generator().manual_seed(seed)))
    return layer.eval()


@pytest.mark.parametrize("method", quantizer_names())
@pytest.mark.parametrize("grid", WEIGHT_GRIDS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("width", [2, 3, 4, 8])
def test_export_form_is_the_trained_weight_to_the_bit(width, granularity, grid, method):
    layer = _trained_layer(width, method, weight_grid=grid, granularity=granularity)
    form = layer.export_form()
    assert form.weight_codes.dtype == np.int8
    assert form.weight_codes.shape == (20, 12)
    assert form.weight_codes.min() >= -(2 ** (width - 1))
    assert form.weight_codes.max() <= 2 ** (width - 1) - 1
    assert len(np.unique(form.weight_codes)) > 2
    assert form.weight_scale.dtype == np.float32
    assert form.weight_scale.shape == (20,)
    assert (form.weight_bits, form.input_bits) == (width, 8)
    assert len(np.unique(form.weight_scale)) == (1 if granularity == "tensor" else 20)
    assert form.weight_grid == (grid if width < 8 else "symmetric")
    weight = form.weight_levels * form.weight_scale[:, None]
    trained = layer.quantized_weight().detach().numpy()
    np.testing.assert_array_equal(weight, trained)
    assert not np.array_equal(weight, layer.weight.detach().numpy())


def test_the_forward_pass_is_its_export_form_to_the_bit():
    layer = _trained_layer(4)
    form = layer.export_form()
    assert form.input_scale.shape == ()
    assert form.input_scale.dtype == np.float32
    x = torch.randn(9, 12)
    codes = np.clip(np.round(x.numpy() / form.input_scale), -128, 127)
    quantized = torch.from_numpy(codes.astype(np.float32) * form.input_scale)
    weight = torch.from_numpy(form.weight_codes * form.weight_scale[:, None])
    with torch.no_grad():
        assert torch.equal(layer(x), functional.linear(quantized, weight, layer.bias))


def test_swapping_keeps_weights_and_neighbours():
    model = _model()
    weight, bias = model[0].weight, model[0].bias
    found = quantize_layers(model, {"2": LayerPlan(4, 4), "0": LayerPlan(8, 6)})
    assert list(found) == ["2", "0"]
    assert list(quantized_layers(model)) == ["0", "2"]
    assert model[0].weight is weight
    assert model[0].bias is bias
    assert model[2].bias is None
    assert model[0].input_quantizer.grid.bits == 6
    assert model[0].layer_name == "0"
    assert (model[0].in_features, model[0].out_features) == (12, 20)
    assert type(model[1]) is nn.GELU


def test_at_eight_bits_a_swapped_model_is_close_to_the_float_one():
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    plain, model = _model()(x), _model()
    quantize_layers(model, {"0": LayerPlan(8, 8, "minmax"), "2": LayerPlan(8, 8, "minmax")})
    error = (model(x) - plain).norm() / plain.norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize("name", ["1", "7", "", "0.weight"])
def test_only_linear_layers_can_be_swapped(name):
    model = _model()
    with pytest.raises(InputError, match="must be one of Conv2d, ConvTranspose2d, Linear, but got"):
        quantize_layers(model, {"0": LayerPlan(8, 8), name: LayerPlan(8, 8)})
    assert not quantized_layers(model)


def test_a_layer_is_swapped_once():
    model = _model()
    quantize_layers(model, {"0": LayerPlan(8, 8)})
    with pytest.raises(InputError, match="but got QuantLinear"):
        quantize_layers(model, {"0": LayerPlan(8, 8)})


def test_a_layer_without_statistics_cannot_be_exported():
    layer = quantize_layers(_model(), {"0": LayerPlan(8, 8)})["0"]
    with pytest.raises(Qsam2Error, match="weight step of the layer 0 must be finite"):
        layer.export_form()


def test_numbers_that_are_not_finite_are_named():
    layer = _trained_layer(8)
    with torch.no_grad():
        layer.input_quantizer.sigma.fill_(torch.inf)
    with pytest.raises(Qsam2Error, match="input step of the layer 0"):
        layer.export_form()
    layer = _trained_layer(8)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    with pytest.raises(Qsam2Error, match="weights of the layer 0 are not finite"):
        layer.export_form()


def test_dead_channels_are_reported_and_have_a_step():
    model = _model()
    with torch.no_grad():
        model[0].weight[[3, 11]] = 0
    layer = quantize_layers(model, {"0": LayerPlan(4, 8)})["0"]
    layer.train()
    layer(torch.randn(5, 12))
    form = layer.eval().export_form()
    assert form.dead_channels == (3, 11)
    assert form.weight_scale[3] == MIN_SCALE
    assert not form.weight_codes[[3, 11]].any()
    assert form.weight_codes[0].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_zero_point_that_is_no_number_is_named(value):
    layer = _trained_layer(8, input_grid="affine")
    with torch.no_grad():
        layer.input_quantizer.mu.fill_(value)
    with pytest.raises(Qsam2Error, match=r"the input (step|zero-point) of the layer 0 must be"):
        layer.export_form()


@pytest.mark.parametrize("found", [0.5, 200.0, math.nan])
def test_a_zero_point_that_is_no_code_is_named(found, monkeypatch):
    layer = _trained_layer(8, input_grid="affine")
    monkeypatch.setattr(layer.input_quantizer, "offset", lambda step: torch.tensor(found))
    message = f"input zero-point of the layer 0 must be an integer of -128 to 127, but got {found}"
    with pytest.raises(Qsam2Error, match=message):
        layer.export_form()


def test_training_reaches_weights_and_clips():
    model = _model()
    layer = quantize_layers(model, {"0": LayerPlan(4, 4)})["0"]
    model(torch.randn(5, 12)).square().sum().backward()
    for parameter in (
        layer.weight,
        layer.bias,
        layer.weight_quantizer.log_alpha,
        layer.input_quantizer.log_alpha,
    ):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_held_weights_are_quantized_once_with_the_gradients_of_all_calls():
    torch.manual_seed(0)
    x, calls, found = torch.randn(5, 8), [], []
    for hold in (False, True):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8))
        (layer,) = quantize_layers(model, {"0": LayerPlan(4, 4)}).values()
        rows = layer.weight_rows().detach()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(*(torch.tensor(v) for v in (2.0, 1.0, 0.0)))
        layer.weight_quantizer.frozen = layer.input_quantizer.frozen = True
        layer.weight_quantizer.register_forward_hook(lambda *_: calls.append(hold))  # noqa: B023
        with held_weights([layer] if hold else []):
            model(model(x)).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
        assert "_held" not in vars(layer) or layer._held is None
    assert calls == [False, False, True]
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
