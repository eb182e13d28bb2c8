"""Quantized convolutions: one step per output channel, and the integers that leave for export."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.layers.modules import (
    LayerPlan,
    QuantLayer,
    layers_in_scope,
    quantize_layers,
)
from qsam2_deploy.quant.quantizers.grid import fake_quantize

_KINDS = {
    "plain": lambda: nn.Conv2d(3, 8, 7, stride=4, padding=3),
    "pointwise": lambda: nn.Conv2d(6, 4, 1, bias=False),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6),
    "transposed": lambda: nn.ConvTranspose2d(6, 4, 2, stride=2),
}


def _made(kind: str, bits: int = 4) -> tuple[nn.Module, QuantLayer, torch.Tensor]:
    """Return a convolution, its quantized form that has seen data, and an input."""
    torch.manual_seed(0)
    conv = _KINDS[kind]()
    x = torch.randn(2, conv.in_channels, 8, 8)
    model = nn.Sequential(conv)
    layer = quantize_layers(model, {"0": LayerPlan(bits, bits)})["0"]
    layer.train()
    layer(x)
    return conv, layer.eval(), x


@pytest.mark.parametrize("kind", _KINDS)
def test_the_forward_pass_is_its_export_form_to_the_bit(kind):
    conv, layer, x = _made(kind)
    form = layer.export_form()
    assert form.weight_codes.shape == tuple(conv.weight.shape)
    assert form.weight_scale.shape == (conv.out_channels,)
    channels = (1, -1, 1, 1) if kind == "transposed" else (-1, 1, 1, 1)
    weight = form.weight_codes * form.weight_scale.reshape(channels)
    np.testing.assert_array_equal(weight, layer.quantized_weight().detach().numpy())
    quantized = fake_quantize(x, torch.from_numpy(form.input_scale), layer.input_quantizer.grid)
    if kind == "transposed":
        apply = functional.conv_transpose2d
        settings = {"stride": conv.stride}
    else:
        apply = functional.conv2d
        settings = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
    with torch.no_grad():
        expected = apply(quantized, torch.from_numpy(weight), conv.bias, **settings)
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("kind", _KINDS)
def test_each_output_channel_has_its_own_step(kind):
    """Scaling one output channel of the weight scales its step, and no code changes."""
    _, layer, x = _made(kind)
    before = layer.export_form()
    axis = 1 if kind == "transposed" else 0
    with torch.no_grad():
        layer.weight.select(axis, 2).mul_(4)
    layer.weight_quantizer.sigma.fill_(torch.nan)
    layer.train()
    layer(x)
    after = layer.eval().export_form()
    expected = before.weight_scale.copy()
    expected[2] *= 4
    np.testing.assert_allclose(after.weight_scale, expected, rtol=1e-6)
    np.testing.assert_array_equal(after.weight_codes, before.weight_codes)


def test_dead_output_channels_are_found():
    _, layer, _ = _made("transposed")
    with torch.no_grad():
        layer.weight[:, 1] = 0
    assert layer.export_form().dead_channels == (1,)


def test_what_cannot_be_quantized_is_named():
    model = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.ConvTranspose2d(4, 4, 2, groups=2)
    )
    with pytest.raises(InputError, match="'0': its padding must be 'zeros', but got 'reflect'"):
        quantize_layers(model, {"0": LayerPlan(8, 8)})
    with pytest.raises(InputError, match="'1': a transposed convolution must have one group"):
        quantize_layers(model, {"1": LayerPlan(8, 8)})


def test_scopes():
    model = nn.ModuleDict(
        {
            "image_encoder": nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4), nn.Linear(4, 4)),
            "mask_downsample": nn.Conv2d(1, 1, 4),
            "decoder": nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.Linear(4, 1)),
        }
    )
    assert list(layers_in_scope(model, "encoder")) == ["image_encoder.2"]
    every = ["image_encoder.0", "image_encoder.2", "decoder.0", "decoder.1"]
    assert list(layers_in_scope(model, "all")) == every
    with pytest.raises(InputError, match="scope must be one of encoder, all, but got 'some'"):
        layers_in_scope(model, "some")
