"""Types and shapes of the tensors of a component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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
