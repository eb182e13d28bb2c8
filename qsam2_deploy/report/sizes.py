"""Bytes of a model's weights: in float32, in bfloat16, and packed as an export stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..quant.checkpoints.entry import float_state
from ..quant.layers.layer import QuantLayer
from ..quant.layers.modules import quantized_layers

_FLOAT32, _HALF = 4, 2


@dataclass(frozen=True)
class ModelSizes:
    """Bytes of all weights of a model, without the graph around them.

    Attributes:
        float32: four bytes a number.
        bfloat16: two bytes a number.
        packed: codes of quantized layers at their width, their steps and zero-points; other
            numbers in half precision where it holds a tensor exactly, else in float32.
        quantized: the part of ``packed`` that is codes and steps.
    """

    float32: int
    bfloat16: int
    packed: int
    quantized: int


def model_sizes(model: Any) -> ModelSizes:
    """Return the sizes of a model, quantized or not."""
    layers = quantized_layers(model)
    return tensor_sizes(float_state(model), layers)


def tensor_sizes(
    tensors: Mapping[str, torch.Tensor], layers: Mapping[str, QuantLayer] | None = None
) -> ModelSizes:
    """Return the sizes of the tensors of a state dict, some of them weights of ``layers``."""
    codes = {f"{name}.weight": layer for name, layer in (layers or {}).items()}
    count = sum(tensor.numel() for tensor in tensors.values())
    quantized = sum(_layer_bytes(layer) for layer in codes.values())
    rest = sum(_float_bytes(t) for name, t in tensors.items() if name not in codes)
    return ModelSizes(_FLOAT32 * count, _HALF * count, quantized + rest, quantized)


def _layer_bytes(layer: QuantLayer) -> int:
    # The model repeats the step of a whole weight for each output channel.
    count = len(layer.rows(layer.weight)) + layer.input_quantizer.scale.numel()
    steps = count * (_HALF if layer.weight_quantizer.half_step else _FLOAT32)
    steps += int(layer.input_quantizer.is_affine)  # a zero-point is a code of 8 bits
    return -(-layer.weight.numel() * layer.weight_quantizer.grid.bits // 8) + steps


def _float_bytes(tensor: torch.Tensor) -> int:
    exact = bool((tensor.half().float() == tensor.float()).all())
    return tensor.numel() * (_HALF if exact else _FLOAT32)
