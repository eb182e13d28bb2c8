"""Turn quantized weights into the floats that they stand for.

An engine that multiplies floats would otherwise compute them anew in every call: ONNX Runtime does
not fold a DequantizeLinear.

Requires: DequantizeLinear of INT8 constants with a scale per tensor or per channel. Ensures: the
same numbers to the bit, as FLOAT initializers; no DequantizeLinear of a constant is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .graph import DEQUANTIZE, GraphIndex, add_constant, attribute, replace_nodes, value_of

if TYPE_CHECKING:
    import onnx


def fold_weights(model: onnx.ModelProto) -> int:
    """Fold the quantized weights of ``model`` in place.

    Returns:
        How many were folded.
    """
    index = GraphIndex(model)
    folded: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] in index.constants:
            # The constant takes the place of the node's output, so its users stay as they are.
            add_constant(model, node.output[0], _values(index, node))
            folded[node.name] = []
    if folded:
        replace_nodes(model, folded)
    return len(folded)


def _values(index: GraphIndex, node: onnx.NodeProto) -> npt.NDArray[Any]:
    codes, scale = (value_of(index.constants[name]) for name in node.input[:2])
    if scale.ndim:
        shape = [1] * codes.ndim
        shape[attribute(node, "axis", 1)] = -1
        scale = scale.reshape(shape)
    product: npt.NDArray[Any] = codes.astype(np.float32) * scale
    return product
