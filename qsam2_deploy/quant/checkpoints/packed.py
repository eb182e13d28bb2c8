"""Weights of quantized layers as packed integers and back, to the bit."""

from __future__ import annotations

import numpy as np
import torch

from ..._common.packing import pack, stored_bits, unpack
from ..layers.layer import QuantLayer


def packed_weight(layer: QuantLayer) -> torch.Tensor:
    """Return the codes of the layer's weight as the bytes of an ONNX initializer.

    Codes are in the weight's own C order; those of 3, 5, 6 and 7 bits take 4 or 8.

    Returns:
        uint8 [bytes].

    Raises:
        Qsam2Error: the layer has no usable steps or weights.
    """
    stored = layer.export_form()
    data = pack(stored.weight_codes, stored_bits(stored.weight_bits))
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


@torch.no_grad()
def unpack_weight(layer: QuantLayer, packed: torch.Tensor) -> None:
    """Give the layer the weight that its codes stand for: a level times its step, in float32.

    Args:
        layer: with the steps that belong to the codes.
        packed: of :func:`packed_weight`.

    Raises:
        ValueError: these are not the codes of such a layer.
    """
    if not isinstance(packed, torch.Tensor) or packed.dtype != torch.uint8 or packed.ndim != 1:
        raise ValueError(f"the codes of {layer.layer_name} are no bytes")
    grid, weight = layer.weight_quantizer.grid, layer.weight
    found = unpack(packed.numpy().tobytes(), stored_bits(grid.bits), weight.numel())
    codes = torch.from_numpy(found.copy())
    if codes.numel() and not grid.qmin <= int(codes.min()) <= int(codes.max()) <= grid.qmax:
        raise ValueError(f"codes of {layer.layer_name} have more than {grid.bits} bits")
    levels = layer.rows(codes.reshape(weight.shape).float() + grid.centre)
    scale = layer.weight_quantizer.scale.expand(len(levels))
    weight.copy_(layer.weight_from_rows(levels * scale[:, None]))
