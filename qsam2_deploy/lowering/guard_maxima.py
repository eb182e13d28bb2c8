"""Keep the scores of quantized attention from being scaled twice in OpenVINO.

It multiplies integers and scales the sums afterwards. Where its generated code ("snippets") takes
no part, it scales the scores within the product although their maxima are computed from it, too,
and then scales those once more: plainly wrong (2026.4, where the processor has VNNI). A Max of the
scores and a number below all of them is between the two and changes nothing. Components whose
quantizers have fewer than 8 bits are computed without snippets, see ``engines/openvino``.

Requires: scores as MatMul of two dequantized factors, with their maxima as ReduceMax. Ensures: the
same numbers; the product of such scores has one user, in components with a Clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, add_constant, replace_nodes

if TYPE_CHECKING:
    import onnx


def guard_maxima(model: onnx.ModelProto) -> int:
    """Change ``model`` in place.

    Returns:
        How many products were changed.
    """
    if not any(node.op_type == "Clip" for node in model.graph.node):
        return 0
    index = GraphIndex(model)
    maxima = [node for node in model.graph.node if node.op_type == "ReduceMax"]
    found = [index.made_by(node.input[0], "MatMul") for node in maxima]
    new = {node.name: _guarded(model, node) for node in found if node is not None}
    if new:
        replace_nodes(model, new)
    return len(new)


def _guarded(model: onnx.ModelProto, product: onnx.NodeProto) -> list[onnx.NodeProto]:
    from onnx import NodeProto, helper

    lowest = add_constant(model, "attention/lowest", np.finfo(np.float32).min)
    unguarded = NodeProto()
    unguarded.CopyFrom(product)
    unguarded.output[0] = f"{product.name}/unguarded"
    guard = helper.make_node(
        "Max", [unguarded.output[0], lowest], list(product.output), f"{product.name}/guard"
    )
    return [unguarded, guard]
