"""Run each quantized attention product as one operator of our own; see ``docs/kernels.md``.

It quantizes queries, keys and values itself and keeps no scores in memory beyond some queries at a
time. Heads may stay inside, as ``[batch, rows, heads, columns]``, so the transpositions around the
product go too.

Requires: attention as :mod:`.attention_pattern` describes it, in which queries and keys have no
zero-point, and weights have the step 1/255. Ensures: one ``qsam2`` ``QuantizedAttention`` in its
place, with the same integer sums; a weight may be another code where it is a tie but for the
rounding of ``exp``. Shapes of what follows can still be inferred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.attention_pattern import QuantizedAttention, find_quantized_attentions
from ..onnx_graph.index import GraphIndex, attribute, value_of, zero_point
from .kernel_operators import DOMAIN, inferred_values, put_kernels

if TYPE_CHECKING:
    import onnx

OPERATOR = "QuantizedAttention"

_HEADS_OUT = [0, 2, 1, 3]
_HEADS_OUT_TRANSPOSED = [0, 2, 3, 1]


def fused_attention(model: onnx.ModelProto) -> int:
    """Replace the quantized attention products of ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = [a for a in find_quantized_attentions(model, index) if _fits(index, a)]
    if not found:
        return 0
    shapes = inferred_values(model)
    new = {}
    for attention in found:
        last = _last(index, attention)
        rank = len(shapes[attention.value.input[0]].type.tensor_type.shape.dim)
        new[last.name] = _nodes(index, attention, last, rank)
    put_kernels(model, new, shapes)
    return len(found)


def _fits(index: GraphIndex, attention: QuantizedAttention) -> bool:
    step = index.constants.get(attention.weights.input[1])
    return (
        step is not None
        and bool(np.all(value_of(step) == np.float32(1 / 255)))
        and not zero_point(index, attention.weights)
        and not zero_point(index, attention.query)
        and not zero_point(index, attention.key)
    )


def _last(index: GraphIndex, attention: QuantizedAttention) -> onnx.NodeProto:
    """Return the node that brings the heads inside after the product, or its own last node."""
    users = index.users.get(attention.result.output[0], [])
    if len(users) == 1 and _permutation(users[0]) == _HEADS_OUT:
        return users[0]
    return attention.result


def _permutation(node: onnx.NodeProto | None) -> list[int] | None:
    if node is None or node.op_type != "Transpose":
        return None
    perm = attribute(node, "perm")
    return None if perm is None else list(perm)


def _nodes(
    index: GraphIndex, attention: QuantizedAttention, last: onnx.NodeProto, rank: int
) -> list[onnx.NodeProto]:
    from onnx import helper

    query, inner_query = _rows(index, attention.query.input[0])
    value, inner_value = _rows(index, attention.value.input[0])
    key, inner_key, nodes = _key_rows(index, attention, rank)
    scales = [part.input[1] for part in (attention.query, attention.key, attention.value)]
    offset = attention.value.input[2:3] if zero_point(index, attention.value) else []
    node = helper.make_node(
        OPERATOR,
        [query, key, value, *scales, *offset],
        list(last.output),
        attention.result.name,
        domain=DOMAIN,
        inner_query=inner_query,
        inner_key=inner_key,
        inner_value=inner_value,
        inner_output=int(last is not attention.result),
    )
    return [*nodes, node]


def _rows(index: GraphIndex, tensor: str) -> tuple[str, int]:
    """Return a tensor ``[..., rows, columns]``, and whether it has its heads inside."""
    transpose = index.made_by(tensor, "Transpose")
    if transpose is not None and _permutation(transpose) == _HEADS_OUT:
        return transpose.input[0], 1
    return tensor, 0


def _key_rows(
    index: GraphIndex, attention: QuantizedAttention, rank: int
) -> tuple[str, int, list[onnx.NodeProto]]:
    """Return the keys likewise, which the product has transposed, and nodes that make them."""
    from onnx import helper

    transposed = attention.key.input[0]
    swap = [*range(rank - 2), rank - 1, rank - 2]
    transpose = index.made_by(transposed, "Transpose")
    perm = _permutation(transpose)
    if transpose is not None and perm == _HEADS_OUT_TRANSPOSED:
        return transpose.input[0], 1, []
    if transpose is not None and perm == swap:
        return *_rows(index, transpose.input[0]), []
    rows = f"{attention.result.name}/keys"
    return rows, 0, [helper.make_node("Transpose", [transposed], [rows], rows, perm=swap)]
