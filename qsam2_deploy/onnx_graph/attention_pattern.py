"""Finding the quantized attention products of a graph, which several passes rewrite.

The form is that of ``docs/formats.md``: ``e = exp(q k - max(q k))``, then ``(e v) / sum(e)``, with
``q``, ``k``, ``e`` and ``v`` behind QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .index import GraphIndex

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class QuantizedAttention:
    """The nodes of one quantized attention product.

    Attributes:
        query: QuantizeLinear of the queries ``[..., n, d]``.
        key: QuantizeLinear of the keys, transposed, ``[..., d, m]``.
        value: QuantizeLinear of the values ``[..., m, e]``.
        weights: QuantizeLinear of the weights ``[..., n, m]``.
        scores: MatMul of queries and keys.
        context: MatMul of weights and values.
        result: Div by the sum of the weights, the last node.
    """

    query: onnx.NodeProto
    key: onnx.NodeProto
    value: onnx.NodeProto
    weights: onnx.NodeProto
    scores: onnx.NodeProto
    context: onnx.NodeProto
    result: onnx.NodeProto


def find_quantized_attentions(
    model: onnx.ModelProto, index: GraphIndex
) -> list[QuantizedAttention]:
    """Return the quantized attention products of ``model`` in the order of their last nodes."""
    divisions = [node for node in model.graph.node if node.op_type == "Div"]
    found = (_match(index, division) for division in divisions)
    return [attention for attention in found if attention is not None]


def _match(index: GraphIndex, result: onnx.NodeProto) -> QuantizedAttention | None:
    context = index.made_by(result.input[0], "MatMul")
    total = index.made_by(result.input[1], "ReduceSum")
    if context is None or total is None:
        return None
    weights = index.quantized_input(context.input[0])
    summed = index.quantized_input(total.input[0])
    scores = _scores(index, weights)
    if weights is None or scores is None or summed is None or summed.name != weights.name:
        return None
    query, key = (index.quantized_input(name) for name in scores.input)
    value = index.quantized_input(context.input[1])
    if query is None or key is None or value is None:
        return None
    return QuantizedAttention(query, key, value, weights, scores, context, result)


def _scores(index: GraphIndex, weights: onnx.NodeProto | None) -> onnx.NodeProto | None:
    """Return the product whose ``exp(s - max s)`` is quantized by ``weights``."""
    exp = index.made_by(weights.input[0], "Exp") if weights is not None else None
    shifted = index.made_by(exp.input[0], "Sub") if exp is not None else None
    if shifted is None:
        return None
    scores = index.made_by(shifted.input[0], "MatMul")
    largest = index.made_by(shifted.input[1], "ReduceMax")
    if scores is None or largest is None or largest.input[0] != scores.output[0]:
        return None
    return scores
