"""The canonical form of a quantized layer: QDQ around an ordinary operator.

::

    x -> [Clip] -> QuantizeLinear -> DequantizeLinear -> MatMul | Conv | ConvTranspose -> ...
                               codes -> DequantizeLinear ---^

Inputs have INT8 codes and a step for the tensor; a grid of fewer bits is the same behind a Clip to
its first and last level, which is exact. Weights are stored packed, with a step for each output
channel. All steps are symmetric, so that there are no zero-points but the one that gives
QuantizeLinear its type.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..quant.grid import Grid
from ..quant.layer import QuantizedWeights
from .graph import GraphBuilder, Tensor

Codes = npt.NDArray[np.int8]


def quantize_input(g: GraphBuilder, x: Tensor, q: QuantizedWeights, *, name: str) -> Tensor:
    """Return the INT8 codes of ``x``, the input of the layer ``name``."""
    if q.input_bits < 8:
        grid = Grid(q.input_bits)
        limits = [
            g.constant(f"{name}.input_{end}", q.input_scale * np.float32(level))
            for end, level in (("min", grid.qmin), ("max", grid.qmax))
        ]
        x = g.op("Clip", x, *limits, name=name)
    return g.op("QuantizeLinear", x, *_input_scale(g, q, name), name=f"{name}/input")


def dequantize_input(g: GraphBuilder, codes: Tensor, q: QuantizedWeights, *, name: str) -> Tensor:
    """Return the values of INT8 codes; one node for each user, which is what engines fuse."""
    return g.op("DequantizeLinear", codes, *_input_scale(g, q, name), name=f"{name}/input")


def fake_quantized(g: GraphBuilder, x: Tensor, q: QuantizedWeights, *, name: str) -> Tensor:
    """Return ``x`` on the grid of the input of the layer ``name``."""
    return dequantize_input(g, quantize_input(g, x, q, name=name), q, name=name)


def dequantized_weight(
    g: GraphBuilder, q: QuantizedWeights, codes: Codes, *, axis: int, name: str
) -> Tensor:
    """Return the weight of the layer ``name``, stored packed.

    Args:
        g: the graph.
        q: the layer's numbers.
        codes: its codes as the operator wants them.
        axis: their axis of output channels.
        name: path of the layer.
    """
    stored = g.packed(f"{name}.weight", codes, q.weight_bits)
    g.quantized[f"{name}.weight"] = f"w{q.weight_bits}a{q.input_bits}"
    scale = g.constant(f"{name}.weight_scale", q.weight_scale)
    return g.op("DequantizeLinear", stored, scale, name=f"{name}/weight", axis=axis)


def _input_scale(g: GraphBuilder, q: QuantizedWeights, name: str) -> tuple[Tensor, Tensor]:
    scale = g.constant(f"{name}.input_scale", np.float32(q.input_scale))
    return scale, g.constant("int8_zero", np.int8(0), np.int8)
