"""Write quantized attention products as OpenVINO computes them fastest.

- Keys are quantized as rows ``[..., m, d]``, and their transposition stands behind the rounding,
  next to the product, which then reads them as they are.
- Many queries attend a block at a time. A product of all of them is no faster, and its scores and
  weights fill five bytes for each pair of query and key: 590 MB at 1024 pixels with 7 memories.

Requires: attention as :mod:`.attention_pattern` describes it, with queries of a known number.
Ensures: the same numbers in the canonical form, one for each block of queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.attention_pattern import QuantizedAttention, find_quantized_attentions
from ..onnx_graph.index import (
    DEQUANTIZE,
    QUANTIZE,
    GraphIndex,
    add_constant,
    attribute,
    inferred_shapes,
    replace_nodes,
)
from .chunk_attention import MIN_QUERIES, block_sizes

if TYPE_CHECKING:
    import onnx

BLOCK_OF = "/block of "
"""Stands in the name of a product between the block's name and that of the whole product."""

NewNodes = dict[str, list["onnx.NodeProto"]]


def block_attention(model: onnx.ModelProto, block: int) -> int:
    """Rewrite the quantized attention products of ``model`` in place.

    Args:
        model: is changed.
        block: queries that attend at a time, where there are many.

    Returns:
        How many products were rewritten.
    """
    index = GraphIndex(model)
    found = find_quantized_attentions(model, index)
    if not found:
        return 0
    shapes, new = inferred_shapes(model), NewNodes()
    for attention in found:
        new |= _rows_of_keys(index, attention)
        queries = shapes[attention.query.input[0]]
        if queries[-2] >= MIN_QUERIES:
            sizes = block_sizes(queries[-2], block)
            new[attention.result.name] = _blocks(model, attention, sizes, len(queries) - 2)
    if new:
        replace_nodes(model, new)
    return len(found)


def _rows_of_keys(index: GraphIndex, attention: QuantizedAttention) -> NewNodes:
    """Return what takes the places of the pair that quantizes the transposed keys."""
    from onnx import helper

    quantize, keys = attention.key, attention.scores.input[1]
    transpose = index.made_by(quantize.input[0], "Transpose")
    if transpose is None or len(index.users[quantize.output[0]]) != 1:
        return {}
    perm = list(attribute(transpose, "perm"))
    rank, name, grid = len(perm), quantize.name, list(quantize.input[1:])
    swap = [*range(rank - 2), rank - 1, rank - 2]
    to_rows = [perm[axis] for axis in swap]
    rows, codes, values = transpose.input[0], f"{name}/codes", f"{name}/values"
    nodes = []
    if to_rows != list(range(rank)):
        heads = f"{name}/rows"
        nodes.append(helper.make_node("Transpose", [rows], [heads], heads, perm=to_rows))
        rows = heads
    nodes += [
        helper.make_node(QUANTIZE, [rows, *grid], [codes], codes),
        helper.make_node(DEQUANTIZE, [codes, *grid], [values], values),
        helper.make_node("Transpose", [values], [keys], f"{name}/columns", perm=swap),
    ]
    return {quantize.name: nodes, index.producer[keys].name: []}


def _blocks(
    model: onnx.ModelProto, attention: QuantizedAttention, sizes: list[int], axis: int
) -> list[onnx.NodeProto]:
    """Return the nodes from queries, keys and values to the result, a block at a time."""
    from onnx import helper

    name = attention.result.name
    queries = [f"{name}/queries.{i}" for i in range(len(sizes))]
    results = [f"{name}/block.{i}" for i in range(len(sizes))]
    lengths = add_constant(model, f"{name}/sizes", np.asarray(sizes, np.int64))
    source = attention.scores.input[0]
    nodes = [helper.make_node("Split", [source, lengths], queries, f"{name}/Split", axis=axis)]
    for part, result in zip(queries, results, strict=True):
        nodes += _block(model, attention, part, result)
    output = list(attention.result.output)
    return [*nodes, helper.make_node("Concat", results, output, f"{name}/Concat", axis=axis)]


def _block(
    model: onnx.ModelProto, attention: QuantizedAttention, queries: str, result: str
) -> list[onnx.NodeProto]:
    """Return the nodes from some queries to their averages of the values."""
    from onnx import helper

    # A product keeps its own name at the end of the new one, so that reports find it.
    scores, context = (
        f"{result}{BLOCK_OF}{node.name}" for node in (attention.scores, attention.context)
    )
    largest, shifted, exp, codes, weights, total = (
        f"{result}/{kind}" for kind in ("largest", "shifted", "exp", "codes", "weights", "total")
    )
    grid = list(attention.weights.input[1:])
    last = add_constant(model, "last_axis", np.array([-1]))
    return [
        helper.make_node("MatMul", [queries, attention.scores.input[1]], [scores], scores),
        helper.make_node("ReduceMax", [scores], [largest], largest, axes=[-1], keepdims=1),
        helper.make_node("Sub", [scores, largest], [shifted], shifted),
        helper.make_node("Exp", [shifted], [exp], exp),
        helper.make_node(QUANTIZE, [exp, *grid], [codes], codes),
        helper.make_node(DEQUANTIZE, [codes, *grid], [weights], weights),
        helper.make_node("ReduceSum", [weights, last], [total], total, keepdims=1),
        helper.make_node("MatMul", [weights, attention.context.input[1]], [context], context),
        helper.make_node("Div", [context, total], [result], result),
    ]
