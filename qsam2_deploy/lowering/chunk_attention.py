"""Attend with a block of queries at a time, so that the scores stay in the processor's cache.

At 1024 pixels the memory attention's scores are 4096 x 28736 numbers: 471 MB that a plain graph
writes and reads several times in each layer. A softmax is over the keys, so queries are
independent and the blocks give the same numbers.

Requires: attention as MatMul, Softmax over the last axis, MatMul, with queries ``[..., n, d]`` of a
known ``n``. Ensures: the same outputs; no tensor of all scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..onnx_graph.index import GraphIndex, inferred_shapes

if TYPE_CHECKING:
    import onnx

MIN_QUERIES = 1024
"""Attention over fewer queries (windows, prompt tokens) is left as it is."""


@dataclass(frozen=True)
class _Attention:
    scores: onnx.NodeProto
    softmax: onnx.NodeProto
    context: onnx.NodeProto
    queries: int
    rank: int


def chunk_attention(model: onnx.ModelProto, block: int) -> int:
    """Split every large attention of ``model`` into blocks of ``block`` queries, in place.

    Returns:
        How many attentions were split.
    """
    found = {a.context.name: a for a in _find(model)}
    if not found:
        return 0
    dropped = {n.name for a in found.values() for n in (a.scores, a.softmax)}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in found:
            nodes += _blocks(model, found[node.name], block)
        elif node.name not in dropped:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(found)


def block_sizes(queries: int, block: int) -> list[int]:
    """Return the sizes of the blocks: all of size ``block`` but perhaps the last."""
    count = -(-queries // block)
    return [block] * (count - 1) + [queries - block * (count - 1)]


def _find(model: onnx.ModelProto) -> list[_Attention]:
    shapes = inferred_shapes(model)
    index = GraphIndex(model)
    found = []
    for softmax in model.graph.node:
        if softmax.op_type != "Softmax":
            continue
        scores = index.made_by(softmax.input[0], "MatMul")
        after = index.users.get(softmax.output[0], [])
        if scores is None or len(index.users[scores.output[0]]) != 1:
            continue
        if [n.op_type for n in after] != ["MatMul"] or after[0].input[0] != softmax.output[0]:
            continue
        shape = shapes.get(scores.input[0], ())
        if len(shape) >= 2 and shape[-2] >= MIN_QUERIES:
            found.append(_Attention(scores, softmax, after[0], shape[-2], len(shape)))
    return found


def _blocks(model: onnx.ModelProto, attention: _Attention, block: int) -> list[onnx.NodeProto]:
    import numpy as np
    from onnx import helper, numpy_helper

    query, key = attention.scores.input
    value, name = attention.context.input[1], attention.context.name
    sizes = block_sizes(attention.queries, block)
    count = len(sizes)
    sizes_name = f"{name}/sizes"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(sizes, np.int64), sizes_name))
    parts = [f"{name}/query.{i}" for i in range(count)]
    axis = attention.rank - 2
    nodes = [helper.make_node("Split", [query, sizes_name], parts, f"{name}/Split", axis=axis)]
    for i, part in enumerate(parts):
        scores, softmax, context = (f"{name}/{kind}.{i}" for kind in ("scores", "softmax", "part"))
        nodes.append(helper.make_node("MatMul", [part, key], [scores], scores))
        nodes.append(helper.make_node("Softmax", [scores], [softmax], softmax, axis=-1))
        nodes.append(helper.make_node("MatMul", [softmax, value], [context], context))
    outputs = [f"{name}/part.{i}" for i in range(count)]
    nodes.append(
        helper.make_node(
            "Concat", outputs, list(attention.context.output), f"{name}/Concat", axis=axis
        )
    )
    return nodes
