"""Write mid-rise weights as integers that every engine multiplies.

A mid-rise level ``k + 1/2`` times a step is the odd integer ``2k + 1`` times half of it: the same
float to the bit, since halving a step is exact. Codes of up to 7 bits give odd ones within INT8,
and those of 2 and 3 bits odd ones within INT4.

Requires: ``Mul(Add(DequantizeLinear(codes, 1), 1/2), scale)`` with INT8 codes and a scale with one
dimension that is not 1, as the export writes it. Ensures: in its place ``DequantizeLinear(odd
codes, scale / 2)``, per channel along that dimension, like a symmetric weight of INT8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..onnx_graph.index import DEQUANTIZE, GraphIndex, add_constant, replace_nodes, value_of

if TYPE_CHECKING:
    import onnx

_HALF = 0.5


@dataclass(frozen=True)
class _Weight:
    multiply: onnx.NodeProto
    codes: str
    scale: str


def odd_codes(model: onnx.ModelProto) -> int:
    """Replace the mid-rise weights of ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = [weight for node in model.graph.node if (weight := _midrise(index, node)) is not None]
    if found:
        replace_nodes(model, {w.multiply.name: [_dequantize(model, index, w)] for w in found})
    return len(found)


def _midrise(index: GraphIndex, multiply: onnx.NodeProto) -> _Weight | None:
    if multiply.op_type != "Mul" or multiply.input[1] not in index.constants:
        return None
    add = index.made_by(multiply.input[0], "Add")
    if add is None or not _is_scalar(index, add.input[1], _HALF):
        return None
    codes = index.quantized_constant(add.input[0])
    if codes is None or not _is_scalar(index, codes.input[1], 1.0):
        return None
    return _Weight(multiply, codes.input[0], multiply.input[1])


def _is_scalar(index: GraphIndex, name: str, value: float) -> bool:
    constant = index.constants.get(name)
    if constant is None or list(constant.dims):
        return False
    return float(value_of(constant)) == value


def _dequantize(model: onnx.ModelProto, index: GraphIndex, weight: _Weight) -> onnx.NodeProto:
    from onnx import helper

    codes: npt.NDArray[Any] = value_of(index.constants[weight.codes])
    scale: npt.NDArray[Any] = value_of(index.constants[weight.scale])
    axis = next((i for i, size in enumerate(scale.shape) if size > 1), _channels(codes, scale))
    odd = add_constant(model, f"{weight.codes}/odd", (2 * codes + 1).astype(np.int8))
    half = add_constant(
        model, f"{weight.scale}/half", (scale.reshape(-1) * np.float32(_HALF)).astype(np.float32)
    )
    return helper.make_node(
        DEQUANTIZE, [odd, half], list(weight.multiply.output), weight.multiply.name, axis=axis
    )


def _channels(codes: npt.NDArray[Any], scale: npt.NDArray[Any]) -> int:
    """Return the axis of a layer's only output channel."""
    return next(i for i in reversed(range(scale.ndim)) if codes.shape[i] == scale.shape[i])
