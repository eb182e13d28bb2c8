"""A whole model whose every layer is quantized, without any calibration data."""

import dataclasses
from typing import Any

import torch

from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint
from qsam2_deploy.quant.layers.attention import attentions, product_plan, quantize_attentions
from qsam2_deploy.quant.layers.modules import LayerPlan, layers_in_scope, quantize_layers


def quantize_model(
    loaded: Checkpoint,
    bits: int,
    *,
    activation_bits: int | None = None,
    scope: str = "all",
    attention: bool = False,
    **other: int,
) -> Checkpoint:
    """Quantize the layers of a scope of a loaded model in place, with plausible clips.

    Args:
        loaded: a float checkpoint.
        bits: width of weights and activations.
        activation_bits: width of activations, where it is another one.
        scope: ``encoder`` or ``all``.
        attention: quantize the attention products too.
        other: other widths of weights, by the first word of the layers' names.
    """
    inputs = bits if activation_bits is None else activation_bits
    model = quantize_in_place(loaded.model, bits, activation_bits=inputs, scope=scope, **other)
    if attention:
        _quantize_attention(model)
        model.eval().requires_grad_(False)
    entry = {"scope": scope, "weight_bits": bits, "activation_bits": inputs}
    return dataclasses.replace(loaded, quantization=entry)


def quantize_in_place(
    model: Any,
    bits: int,
    *,
    activation_bits: int | None = None,
    scope: str = "all",
    method: str = "lsc",
    half: bool = False,
    only: tuple[str, ...] = ("",),
    **other: int,
) -> Any:
    """Quantize the layers of ``model`` whose names begin with one of ``only``, and return it."""
    names = [name for name in layers_in_scope(model, scope) if name.startswith(only)]
    inputs = bits if activation_bits is None else activation_bits
    plan = {
        name: LayerPlan(other.get(name.split(".")[0], bits), inputs, method, half) for name in names
    }
    for layer in quantize_layers(model, plan).values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        one = torch.tensor(1.0)
        layer.input_quantizer.warm_start(one, one, torch.tensor(0.0))
    return model.eval().requires_grad_(False)


def _quantize_attention(model: Any) -> None:
    plan = dict.fromkeys(attentions(model), product_plan("lsc"))
    for attention in quantize_attentions(model, plan).values():
        for quantizer in attention.product.quantizers.values():
            quantizer.warm_start(*map(torch.tensor, (4.0, 1.0, 0.0)))
