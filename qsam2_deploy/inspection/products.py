"""Multiply-adds of the products of a component: linear layers, convolutions and attention.

They are counted for one tracked frame in steady state: one object, all memory slots filled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelFileError
from ..lowering import lower_to_float
from ..onnx_graph.index import attribute

if TYPE_CHECKING:
    import onnx

STEADY_STATE = {"B": 1, "F": 7, "N": 16, "P": 2}
"""Dynamic dimensions of a tracked frame: objects, memory frames, pointers, points."""

PRODUCTS = ("MatMul", "Conv", "ConvTranspose")
"""The operators that multiply matrices in a canonical model."""


class TensorType(NamedTuple):
    """What shape inference says about a tensor.

    Attributes:
        elem_type: one of ``onnx.TensorProto.DataType``.
        shape: its dimensions; 0 where one is not known.
    """

    elem_type: int
    shape: tuple[int, ...]


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


def copy_of(component: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy, for passes that change their model."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(component)
    return copied


def fix_dimensions(component: onnx.ModelProto) -> None:
    """Give the inputs and outputs the sizes of :data:`STEADY_STATE`, in place."""
    for tensor in (*component.graph.input, *component.graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param in STEADY_STATE:
                dim.dim_value = STEADY_STATE[dim.dim_param]


def inferred_tensors(model: onnx.ModelProto) -> dict[str, TensorType]:
    """Return type and shape of every tensor of ``model`` by its name."""
    import onnx

    inferred: Any = onnx.shape_inference.infer_shapes(model, data_prop=True)
    infos = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    found = {info.name: _tensor_type(info.type.tensor_type) for info in infos}
    constants = model.graph.initializer
    return found | {t.name: TensorType(t.data_type, tuple(t.dims)) for t in constants}


def _tensor_type(declared: Any) -> TensorType:
    return TensorType(declared.elem_type, tuple(dim.dim_value for dim in declared.shape.dim))


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
