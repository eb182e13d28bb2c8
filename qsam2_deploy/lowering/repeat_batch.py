"""Repeat what a convolution reads, where its result is added to a larger batch.

OpenVINO lets a convolution add the other summand in place. Where that one's batch is dynamic it is
taken for equal, and a batch of 1 that should be repeated gives an empty result, or a crash (seen
with 2026.4 in the memory encoder, where several objects share the features). It takes away an
Expand between convolution and sum, but not one in front of the convolution.

Requires: ordinary ONNX operators, whose shapes can be inferred. Ensures: the same numbers; no Conv
of batch 1 whose result is added to one of another batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, add_constant, inferred_shapes, replace_nodes

if TYPE_CHECKING:
    import onnx

Shapes = dict[str, tuple[int, ...]]


def repeat_batch(model: onnx.ModelProto) -> int:
    """Repeat the inputs of such convolutions of ``model`` in place.

    Returns:
        How many there were.
    """
    index, shapes = GraphIndex(model), inferred_shapes(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    for add in model.graph.node:
        if add.op_type != "Add":
            continue
        for summand, other in (list(add.input), list(reversed(add.input))):
            conv = index.made_by(summand, "Conv")
            if conv is not None and _is_repeated(shapes, summand, other):
                new[add.name] = _repeated(model, index, conv, add, other)
    if new:
        replace_nodes(model, new)
    return len(new)


def _is_repeated(shapes: Shapes, summand: str, other: str) -> bool:
    one, two = shapes.get(summand, ()), shapes.get(other, ())
    return len(one) == len(two) and one[0] == 1 != two[0]


def _repeated(
    model: onnx.ModelProto, index: GraphIndex, conv: onnx.NodeProto, add: onnx.NodeProto, other: str
) -> list[onnx.NodeProto]:
    """Return ``add`` with a convolution of its own, whose input has the batch of ``other``."""
    from onnx import helper

    name = add.name
    quantize = index.quantized_input(conv.input[0])
    shape, count, sizes, repeated, result = (
        f"{name}/{kind}" for kind in ("shape", "batch", "sizes", "repeated", "conv")
    )
    first = add_constant(model, "int64_0", np.array([0]))
    ones = add_constant(model, "three_ones", np.array([1, 1, 1]))
    source = conv.input[0] if quantize is None else quantize.input[0]
    nodes = [
        helper.make_node("Shape", [other], [shape], shape),
        helper.make_node("Gather", [shape, first], [count], count),
        helper.make_node("Concat", [count, ones], [sizes], sizes, axis=0),
        helper.make_node("Expand", [source, sizes], [repeated], repeated),
    ]
    if quantize is not None:
        grid, codes = list(quantize.input[1:]), f"{name}/codes"
        nodes.append(helper.make_node("QuantizeLinear", [repeated, *grid], [codes], codes))
        repeated = f"{name}/on_grid"
        nodes.append(helper.make_node("DequantizeLinear", [codes, *grid], [repeated], repeated))
    own = helper.make_node("Conv", [repeated, *conv.input[1:]], [result], result)
    own.attribute.extend(conv.attribute)
    summands = [other if summand == other else result for summand in add.input]
    return [*nodes, own, helper.make_node("Add", summands, list(add.output), name)]
