"""Compute attention products in floats, for engines whose fused attention wants them so.

TensorRT's fused attention knows INT8 for short sequences and a few head sizes only; around larger
ones the integers would keep it from fusing at all. What is left out is a rounding to 8 bits, so
the result is finer than what was trained. Values on a narrower grid stay on it: a model learns to
live with that one.

Requires: attention as :mod:`.attention_pattern` describes it. Ensures: MatMul, Softmax, MatMul in
its place, of numbers that are not rounded to 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx_graph.attention_pattern import QuantizedAttention, find_quantized_attentions
from ..onnx_graph.index import GraphIndex, replace_nodes

if TYPE_CHECKING:
    import onnx


def float_attention(model: onnx.ModelProto) -> int:
    """Replace the quantized attention products of ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = find_quantized_attentions(model, index)
    if found:
        replace_nodes(model, {a.result.name: _float_nodes(index, a) for a in found})
    return len(found)


def _float_nodes(index: GraphIndex, attention: QuantizedAttention) -> list[onnx.NodeProto]:
    from onnx import helper

    query, key = attention.query.input[0], attention.key.input[0]
    value = attention.value.input[0]
    if index.made_by(value, "Clip") is not None:
        value = attention.context.input[1]
    name = attention.result.name
    scores, softmax = f"{name}/scores", f"{name}/softmax"
    return [
        helper.make_node("MatMul", [query, key], [scores], scores),
        helper.make_node("Softmax", [scores], [softmax], softmax, axis=-1),
        helper.make_node("MatMul", [softmax, value], list(attention.result.output), name),
    ]
