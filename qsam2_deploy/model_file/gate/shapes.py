"""Types and sizes of all tensors of a model file, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..._common.contradictions import one_line
from ...spec import COMPONENTS, ModelSpec, TensorSpec, graph_name
from .limits import MAX_RANK, PROBE_SIZES, max_elements
from .operators import OPERATORS
from .wording import refusal, shown

if TYPE_CHECKING:
    import onnx

_SMALL = 64
"""Elements of a constant that the sizes of tensors may follow from; others stay out of the way."""

_ELEMENT_TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9}


def check_shapes(
    model: onnx.ModelProto, spec: ModelSpec, largest_constant: int, origin: str
) -> None:
    """Work out all types and shapes for a few objects and memories, and check them.

    Args:
        model: whose nodes, constants and interface were checked.
        spec: its metadata, which its interface agrees with.
        largest_constant: elements of the largest initializer.
        origin: the file.

    Raises:
        ModelFileError: types or shapes contradict each other, or a tensor would be too large.
    """
    limit = max_elements(spec.image_size, largest_constant)
    inferred = _inferred(model, spec, origin)
    good: set[tuple[str, bytes]] = set()  # a few hundred pairs of operator and type come up
    for node in model.graph.node:
        op_type = node.op_type
        for name in node.output:
            info = inferred.get(name)
            pair = op_type, b"" if info is None else info.SerializeToString()
            if pair in good:
                continue
            reason = _fault(op_type, info, limit)
            if reason:
                raise refusal(origin, f"the node {shown(node.name)} ({op_type}) {reason}")
            good.add(pair)


def _fault(op_type: str, info: onnx.TypeProto.Tensor | None, limit: int) -> str | None:
    if info is None or not info.HasField("shape"):
        return "makes a tensor whose size does not follow from its inputs"
    if info.elem_type not in OPERATORS[op_type].makes:
        return f"makes the type {info.elem_type}, which qsam2-export does not use there"
    dims = [dim.dim_value for dim in info.shape.dim]  # 0 if it is not known
    count = math.prod(dims)
    if len(dims) > MAX_RANK or min(dims, default=1) < 1:
        return f"makes a tensor of the dimensions {shown(tuple(dims))}"
    if count > limit:
        return (
            f"makes a tensor of {count} elements, but {limit} are the most for a model of this size"
        )
    return None


def _inferred(
    model: onnx.ModelProto, spec: ModelSpec, origin: str
) -> dict[str, onnx.TypeProto.Tensor]:
    """Return type and shape of what the nodes make, by name."""
    import onnx

    try:
        whole = onnx.shape_inference.infer_shapes(
            _skeleton(model, spec), check_type=True, strict_mode=True, data_prop=True
        )
    # Contradictions are InferenceErrors, which are RuntimeErrors, but not all of them.
    except Exception as error:
        reason = one_line(error)
        raise refusal(
            origin, f"types or shapes of its tensors contradict each other ({shown(reason)[1:-1]})"
        ) from error
    infos = (*whole.graph.value_info, *whole.graph.output)
    return {info.name: info.type.tensor_type for info in infos}


def _skeleton(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """Return the model with large constants without their data, and sizes instead of letters."""
    import onnx

    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = skeleton.graph
    graph.name = "sizes"
    graph.node.extend(model.graph.node)
    for name in COMPONENTS:
        component = spec.component(name)
        graph.input.extend(_infos(name, component.inputs))
        graph.output.extend(_infos(name, component.outputs))
    for tensor in model.graph.initializer:
        dims = tensor.dims
        if math.prod(dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=dims)
    return skeleton


def _infos(component: str, tensors: Iterable[TensorSpec]) -> list[onnx.ValueInfoProto]:
    return [
        _info(
            graph_name(component, tensor.name),
            _ELEMENT_TYPES[tensor.dtype],
            [PROBE_SIZES[d] if isinstance(d, str) else d for d in tensor.shape],
        )
        for tensor in tensors
    ]


def _info(name: str, data_type: int, dims: Iterable[int]) -> onnx.ValueInfoProto:
    import onnx

    info = onnx.ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = data_type
    shape = info.type.tensor_type.shape
    for size in dims:
        shape.dim.add().dim_value = size
    return info
