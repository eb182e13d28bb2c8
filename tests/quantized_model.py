"""A whole model whose every layer is quantized, without any calibration data."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from qsam2_deploy.quant.attention import attentions, quantize_attentions
from qsam2_deploy.quant.checkpoint import Checkpoint
from qsam2_deploy.quant.modules import LayerPlan, layers_in_scope, quantize_layers


def quantize_model(
    loaded: Checkpoint, bits: int, *, attention: bool = False, **other: int
) -> Checkpoint:
    """Quantize every layer of a loaded model in place, with plausible clips.

    Args:
        loaded: a float checkpoint.
        bits: width of weights and activations.
        attention: quantize the attention products too.
        other: other widths of weights, by the first word of the layers' names.
    """
    model: Any = loaded.model
    names = list(layers_in_scope(model, "all"))
    plan = {name: LayerPlan(other.get(name.split(".")[0], bits), bits) for name in names}
    for layer in quantize_layers(model, plan).values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        one = torch.tensor(1.0)
        layer.input_quantizer.warm_start(one, one, torch.tensor(0.0))
    if attention:
        _quantize_attention(model)
    model.eval().requires_grad_(False)
    entry = {"scope": "all", "weight_bits": bits, "activation_bits": bits}
    return dataclasses.replace(loaded, quantization=entry)


def _quantize_attention(model: Any) -> None:
    plan = dict.fromkeys(attentions(model), "lsc")
    for attention in quantize_attentions(model, plan).values():
        for quantizer in attention.product.quantizers.values():
            quantizer.warm_start(*map(torch.tensor, (4.0, 1.0, 0.0)))
