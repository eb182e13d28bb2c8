"""Multiply-adds of the products of a component: linear layers, convolutions and attention.

They are counted for one tracked frame in steady state: one object, all memory slots filled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ModelFileError
from ..lowering import lower_to_float
from ..onnx_graph.index import attribute
from ..onnx_graph.tensors import PRODUCTS, TensorType, copy_of, fix_dimensions, inferred_tensors

if TYPE_CHECKING:
    import onnx


def multiply_adds(component: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of every product, by the name of its node.

    Raises:
        ModelFileError: the shape of a product cannot be inferred.
    """
    plain = copy_of(component)
    lower_to_float(plain)
    fix_dimensions(plain)
    tensors = inferred_tensors(plain)
    return {
        node.name: _count(node, tensors) for node in plain.graph.node if node.op_type in PRODUCTS
    }


def _count(node: onnx.NodeProto, tensors: Mapping[str, TensorType]) -> int:
    names = (*node.input[:2], node.output[0])
    x, weight, y = (tensors[name].shape if name in tensors else () for name in names)
    if not x or not weight or not y or 0 in (*x, *weight, *y):
        raise ModelFileError(
            f"the shape of the product {node.name} cannot be inferred; export the model again"
        )
    if node.op_type == "MatMul":
        return math.prod(y) * x[-1]
    if node.op_type == "Conv":
        return math.prod(y) * math.prod(weight[1:])
    stride: int = math.prod(attribute(node, "strides", [1, 1]))
    return math.prod(y) // stride * weight[0] * math.prod(weight[2:])
