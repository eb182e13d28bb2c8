"""Turn quantized weights into the floats that they stand for.

An engine that multiplies floats would otherwise compute them anew in every call: ONNX Runtime does
not fold a DequantizeLinear.

Requires: DequantizeLinear of INT8 constants with a scale per tensor or per channel. Ensures: the
same numbers to the bit, as FLOAT initializers; no DequantizeLinear of such a constant is left, or
none but those that are multiplied with quantized activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..onnx_graph.index import (
    DEQUANTIZE,
    GraphIndex,
    add_constant,
    attribute,
    replace_nodes,
    value_of,
)

if TYPE_CHECKING:
    import onnx


def fold_weights(model: onnx.ModelProto, *, float_products_only: bool = False) -> int:
    """Fold the quantized weights of ``model`` in place.

    Args:
        model: is changed.
        float_products_only: leave the weights that are multiplied with quantized activations.

    Returns:
        How many were folded.
    """
    from onnx import TensorProto

    index = GraphIndex(model)
    folded: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        codes = index.constants.get(node.input[0]) if node.op_type == DEQUANTIZE else None
        if codes is None or codes.data_type != TensorProto.INT8:
            continue
        if not (float_products_only and _meets_integers(index, node)):
            # The constant takes the place of the node's output, so its users stay as they are.
            add_constant(model, node.output[0], _values(index, node))
            folded[node.name] = []
    if folded:
        replace_nodes(model, folded)
    return len(folded)


def _meets_integers(index: GraphIndex, node: onnx.NodeProto) -> bool:
    users = index.users.get(node.output[0], [])
    return all(index.quantized_input(user.input[0]) is not None for user in users)


def _values(index: GraphIndex, node: onnx.NodeProto) -> npt.NDArray[Any]:
    codes, scale = (value_of(index.constants[name]) for name in node.input[:2])
    if scale.ndim:
        shape = [1] * codes.ndim
        shape[attribute(node, "axis", 1)] = -1
        scale = scale.reshape(shape)
    product: npt.NDArray[Any] = codes.astype(np.float32) * scale
    return product
