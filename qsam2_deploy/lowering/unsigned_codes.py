"""Give codes without a sign: each code and its zero-point are 128 more, the values are the same.

A change that integer products have in common; only they must read the codes.

Processors with VNNI multiply unsigned by signed bytes fastest, and exactly. Others add the products
of two pairs in 16 bits (``vpmaddubsw``), where 255 * 127 + 255 * 127 does not fit: sums are cut off
silently. There both factors have to be unsigned, which every processor widens to 16 bits first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import add_constant, value_of

if TYPE_CHECKING:
    import onnx

MIDDLE = 128


def unsigned_codes(model: onnx.ModelProto, quantizers: Iterable[onnx.NodeProto]) -> None:
    """Change the QuantizeLinear nodes ``quantizers`` of ``model`` in place, each of them once."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    # Parts of a layer share the node that quantizes their input.
    for node in {node.name: node for node in quantizers}.values():
        zero_point = int(value_of(constants[node.input[2]]))
        node.input[2] = unsigned_zero_point(model, zero_point)


def unsigned_weights(model: onnx.ModelProto, codes: str) -> list[str]:
    """Add unsigned codes of the constant ``codes``, INT8; return their name and their zero-point's.

    The zero-point of ``codes`` is 0.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    raised = value_of(constants[codes]).astype(np.int16) + MIDDLE
    name = add_constant(model, f"{codes}/unsigned", raised.astype(np.uint8))
    return [name, unsigned_zero_point(model)]


def unsigned_zero_point(model: onnx.ModelProto, signed: int = 0) -> str:
    """Add the zero-point of unsigned codes that belongs to the one of signed ones; return it."""
    zero_point = signed + MIDDLE
    return add_constant(model, f"unsigned_zero_point/{zero_point}", np.uint8(zero_point))
