"""Keep an engine from fusing attention into one kernel, at the price of storing the weights.

Fused attention of some versions of TensorRT is silently wrong in half precision. Here the product
of weights and values is divided by the sum of the weights, after they were rounded. That sum is 1
but for the rounding, so the division makes results a little more exact; and the weights have two
users now, which no fused kernel has.

Requires: ``MatMul(w, v)`` with ``w`` of a Softmax over the last axis, perhaps cast. Ensures:
``Div(MatMul(w, v), ReduceSum(w))`` in its place, with the sum in FLOAT; the same values but for
rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, add_constant, replace_nodes

if TYPE_CHECKING:
    import onnx


def break_attention(model: onnx.ModelProto) -> int:
    """Change ``model`` in place.

    Returns:
        How many attention products were changed.
    """
    index = GraphIndex(model)
    found = [n for n in model.graph.node if n.op_type == "MatMul" and _is_attention(index, n)]
    if found:
        add_constant(model, _AXES, np.array([-1], np.int64))
        replace_nodes(model, {node.name: _divided(index, node) for node in found})
    return len(found)


_AXES = "attention/last_axis"


def _is_attention(index: GraphIndex, product: onnx.NodeProto) -> bool:
    softmax = index.made_by(_before_cast(index, product.input[0]), "Softmax")
    return softmax is not None


def _before_cast(index: GraphIndex, tensor: str) -> str:
    cast = index.made_by(tensor, "Cast")
    return tensor if cast is None else str(cast.input[0])


def _divided(index: GraphIndex, product: onnx.NodeProto) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    weights, name = product.input[0], product.name
    is_half = index.made_by(weights, "Cast") is not None
    whole, total = f"{name}/undivided", f"{name}/total"
    nodes = [helper.make_node("MatMul", list(product.input), [whole], name)]
    if is_half:
        nodes += [helper.make_node("Cast", [weights], [f"{name}/weights"], f"{name}/weights",
                                   to=TensorProto.FLOAT)]  # fmt: skip
        weights = f"{name}/weights"
    nodes += [helper.make_node("ReduceSum", [weights, _AXES], [total], total, keepdims=1)]
    if is_half:
        nodes += [helper.make_node("Cast", [total], [f"{total}/half"], f"{total}/half",
                                   to=TensorProto.FLOAT16)]  # fmt: skip
        total = f"{total}/half"
    return [
        *nodes,
        helper.make_node("Div", [whole, total], list(product.output), f"{name}/divided"),
    ]
