"""Attend with one more query where there are as many queries as heads.

OpenVINO fuses the transposes around an attention into it, and mistakes one axis for the other where
both have the same length: its results are plainly wrong (seen with 2026.4). SAM 2 tiny and small
have such a block, with 4 heads in windows of 2x2 queries. Queries do not know of each other, so one
of zeros changes nothing; its result is cut off.

Requires: attention over the last two axes as MatMul, Softmax, MatMul, or as
:mod:`.attention_pattern` describes it, with known numbers of heads and queries. Ensures: the same
numbers; no such attention with as many queries as heads, above 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.attention_pattern import find_quantized_attentions
from ..onnx_graph.index import GraphIndex, add_constant, inferred_shapes, replace_nodes

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Ends:
    first: onnx.NodeProto  # reads the queries, as its first input
    last: onnx.NodeProto  # makes the result


def pad_queries(model: onnx.ModelProto) -> int:
    """Pad the queries of such attentions of ``model`` in place.

    Returns:
        How many there were.
    """
    index, shapes = GraphIndex(model), inferred_shapes(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    found = _quantized(model, index) + _float(model, index)
    for ends in found:
        shape = shapes.get(ends.first.input[0], ())
        if len(shape) == 4 and shape[1] == shape[2] > 1:
            new |= _padded(model, ends, shape[2])
    if new:
        replace_nodes(model, new)
    return len(new) // 2


def _quantized(model: onnx.ModelProto, index: GraphIndex) -> list[_Ends]:
    return [_Ends(a.query, a.result) for a in find_quantized_attentions(model, index)]


def _float(model: onnx.ModelProto, index: GraphIndex) -> list[_Ends]:
    found = []
    for softmax in model.graph.node:
        scores = index.made_by(softmax.input[0], "MatMul") if softmax.op_type == "Softmax" else None
        users = index.users.get(softmax.output[0], [])
        if scores is not None and [user.op_type for user in users] == ["MatMul"]:
            found.append(_Ends(scores, users[0]))
    return found


def _padded(model: onnx.ModelProto, ends: _Ends, queries: int) -> dict[str, list[onnx.NodeProto]]:
    from onnx import NodeProto, helper

    first, last = NodeProto(), NodeProto()
    first.CopyFrom(ends.first)
    last.CopyFrom(ends.last)
    padded, longer = f"{last.name}/padded", f"{last.name}/longer"
    pads = add_constant(model, "one_more_query", np.array([0, 0, 0, 0, 0, 0, 1, 0]))
    start, axis, count = (add_constant(model, f"int64_{n}", np.array([n])) for n in (0, 2, queries))
    pad = helper.make_node("Pad", [first.input[0], pads], [padded], padded)
    first.input[0] = padded
    cut = [longer, start, count, axis]
    result = helper.make_node("Slice", cut, list(last.output), f"{last.name}/cut")
    last.output[0] = longer
    return {first.name: [pad, first], last.name: [last, result]}
