"""The canonical form of a quantized layer: QDQ around an ordinary operator.

::

    x -> [Clip] -> QuantizeLinear -> DequantizeLinear -> MatMul | Conv | ConvTranspose -> ...
                               codes -> DequantizeLinear ---^
           mid-rise: codes -> DequantizeLinear (by 1) -> Add 1/2 -> Mul scale ---^

Inputs have INT8 codes and a step for the tensor; a grid of fewer bits is the same behind a Clip to
its first and last level, which is exact. Their zero-point is 0 but on affine grids. Weights are
stored packed, with a step for each output channel. On a mid-rise grid they stand for their code
plus 1/2: the sum is exact and the product is rounded once, as in training. (Adding half a step to
``code * step`` would round twice from 3 bits on.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..quant.layers.layer import QuantizedWeights
from ..quant.quantizers.grid import AFFINE, MIDRISE, Grid
from .graph import GraphBuilder, StoredWeight, Tensor

Codes = npt.NDArray[np.int8]


def quantize_input(g: GraphBuilder, x: Tensor, q: QuantizedWeights, *, name: str) -> Tensor:
    """Return the INT8 codes of ``x``, the input of the layer ``name``."""
    if q.input_bits < 8:
        grid = Grid(q.input_bits)
        limits = [
            g.constant(f"{name}.input_{end}", q.input_scale * np.float32(code - q.input_zero_point))
            for end, code in (("min", grid.qmin), ("max", grid.qmax))
        ]
        x = g.op("Clip", x, *limits, name=name)
    return g.op("QuantizeLinear", x, *_input_grid(g, q, name), name=f"{name}/input")


def dequantize_input(g: GraphBuilder, codes: Tensor, q: QuantizedWeights, *, name: str) -> Tensor:
    """Return the values of INT8 codes; one node for each user, which is what engines fuse."""
    return g.op("DequantizeLinear", codes, *_input_grid(g, q, name), name=f"{name}/input")


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
    g.quantized[f"{name}.weight"] = StoredWeight(
        f"w{q.weight_bits}a{q.input_bits}", f"{q.weight_grid}/{q.input_grid}"
    )
    if q.weight_grid == MIDRISE:
        return _midrise_weight(
            g, q, stored, [-1 if i == axis else 1 for i in range(codes.ndim)], name
        )
    scale = g.constant(f"{name}.weight_scale", q.weight_scale)
    return g.op("DequantizeLinear", stored, scale, name=f"{name}/weight", axis=axis)


def _midrise_weight(
    g: GraphBuilder, q: QuantizedWeights, stored: Tensor, shape: list[int], name: str
) -> Tensor:
    scale = g.constant(f"{name}.weight_scale", q.weight_scale.reshape(shape))
    codes = g.op("DequantizeLinear", stored, g.scalar(1.0), name=f"{name}/weight")
    levels = g.add(codes, g.scalar(0.5), name=f"{name}/weight")
    return g.mul(levels, scale, name=f"{name}/weight")


def _input_grid(g: GraphBuilder, q: QuantizedWeights, name: str) -> tuple[Tensor, Tensor]:
    scale = g.constant(f"{name}.input_scale", np.float32(q.input_scale))
    if q.input_grid == AFFINE:
        zero_point = np.int8(q.input_zero_point)
        return scale, g.constant(f"{name}.input_zero_point", zero_point, np.int8)
    return scale, g.constant("int8_zero", np.int8(0), np.int8)
