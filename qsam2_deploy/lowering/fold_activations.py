"""Round inputs to their grids in floats.

With the folded weights this is the reference that everything else is measured against: the model as
it was trained, for any engine that knows nothing of integers.

Requires: DequantizeLinear of QuantizeLinear with a scale per tensor, INT8 or UINT8. Ensures: the
same numbers to the bit from ``Div``, ``Round`` (halves to even), ``Clip`` and ``Mul``; what goes
from Clip to Mul are levels, codes without their zero-point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import (
    DEQUANTIZE,
    QUANTIZE,
    GraphIndex,
    add_constant,
    replace_nodes,
    value_of,
)

if TYPE_CHECKING:
    import onnx


def fold_activations(model: onnx.ModelProto) -> int:
    """Replace the quantized activations of ``model`` in place.

    Returns:
        How many tensors were quantized.
    """
    index = GraphIndex(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    quantizers = [node for node in model.graph.node if node.op_type == QUANTIZE]
    if not quantizers:
        return 0
    for quantize in quantizers:
        new[quantize.name] = _levels(quantize, _limits(model, index, quantize))
        for user in index.users.get(quantize.output[0], []):
            if user.op_type == DEQUANTIZE:
                new[user.name] = [_values(user)]
    replace_nodes(model, new)
    return len(quantizers)


def _limits(model: onnx.ModelProto, index: GraphIndex, node: onnx.NodeProto) -> list[str]:
    """Return the names of the lowest and the highest level of a QuantizeLinear, as floats."""
    zero_point = value_of(index.constants[node.input[2]])
    codes = np.iinfo(zero_point.dtype)
    levels = [int(end) - int(zero_point) for end in (codes.min, codes.max)]
    return [add_constant(model, f"levels/{level}", np.float32(level)) for level in levels]


def _levels(node: onnx.NodeProto, limits: list[str]) -> list[onnx.NodeProto]:
    from onnx import helper

    divided, rounded = f"{node.name}/divided", f"{node.name}/rounded"
    return [
        helper.make_node("Div", list(node.input[:2]), [divided], divided),
        helper.make_node("Round", [divided], [rounded], rounded),
        helper.make_node("Clip", [rounded, *limits], list(node.output), node.name),
    ]


def _values(node: onnx.NodeProto) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Mul", list(node.input[:2]), list(node.output), node.name)
