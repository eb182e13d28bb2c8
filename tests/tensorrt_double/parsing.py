"""Parsing: a network takes its inputs, outputs and layers from the ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import described
from .objects import state
from .plan import static_shape
from .registry import method, reads
from .script import ParserFault, Tensor

if TYPE_CHECKING:
    from .library import TensorRTDouble


@method("OnnxParser.parse", "OnnxParser.parse_from_file")
def _parse(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    network = state(state(this)["network"])
    state(this)["faults"] = list(library.script.faults)
    if network["tensors"] or state(this)["faults"]:
        return False
    if library.script.tensors is not None:
        network["tensors"] = _tensors(library, library.script.tensors)
        return True
    model = arguments["model"]
    data = Path(model).read_bytes() if isinstance(model, str) else bytes(model)
    try:
        _read_onnx(library, network, data)
    except Exception as error:  # whatever protobuf raises for what is no model
        code = "MODEL_DESERIALIZE_FAILED"
        state(this)["faults"] = [ParserFault(f"cannot read the model: {error}", code=code)]
        return False
    return True


def _read_onnx(library: TensorRTDouble, network: dict[str, Any], data: bytes) -> None:
    """Give ``network`` the inputs, outputs and nodes of the model in ``data``."""
    import onnx

    graph = onnx.load_from_string(data).graph
    names = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF"}
    constants = {constant.name for constant in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    tensors = []
    for value in [*inputs, *graph.output]:
        kind = value.type.tensor_type
        shape = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
        name = names.get(kind.elem_type) or onnx.TensorProto.DataType.Name(kind.elem_type)
        tensors.append(Tensor(value.name, shape, value in inputs, name))
    network["tensors"] = _tensors(library, tensors)
    network["layers"] = [library.make("ILayer", name=node.name) for node in graph.node]


@method("INetworkDefinition.add_input")
def _add_input(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    shape = tuple(described(size) for size in arguments["shape"])
    tensor = Tensor(arguments["name"], shape, is_input=True, dtype=arguments["dtype"].name)
    state(this)["tensors"] += _tensors(library, [tensor])
    return state(this)["tensors"][-1]


@method("INetworkDefinition.mark_output")
def _mark_output(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    given = arguments["tensor"]
    # the double infers no shapes: one that was not set is that of a number
    made = Tensor(given.name, tuple(given.shape), is_input=False, dtype=given.dtype.name)
    state(given).update(described=made, is_network_input=False, is_network_output=True)
    state(this)["tensors"].append(given)


def _tensors(library: TensorRTDouble, tensors: Any) -> list[Any]:
    """Return the tensors of a network."""
    return [
        library.make(
            "ITensor",
            described=tensor,
            name=tensor.name,
            shape=library.dims(static_shape(tensor)),
            dtype=library.member("DataType", tensor.dtype),
            is_network_input=tensor.is_input,
            is_network_output=not tensor.is_input,
        )
        for tensor in tensors
    ]


@reads("OnnxParser.num_errors")
def _number_of_errors(library: TensorRTDouble, this: Any) -> int:
    return len(state(this).get("faults", ()))


@method("OnnxParser.get_error")
def _get_error(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    faults = state(this).get("faults", ())
    index = described(arguments["index"])
    if not 0 <= index < len(faults):
        raise library.bad_call(f"OnnxParser.get_error({index}), but num_errors is {len(faults)}")
    return library.make("ParserError", fault=faults[index])


@method("OnnxParser.clear_errors")
def _clear_errors(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    state(this)["faults"] = []


def _part_of_fault(name: str, *methods: str) -> None:
    names = [f"ParserError.{m}" for m in methods]
    method(*names)(lambda library, this, arguments: getattr(state(this)["fault"], name))


_part_of_fault("description", "desc", "__str__")
for _part in ("node", "node_name", "node_operator"):
    _part_of_fault(_part, _part)


@method("ParserError.code")
def _code(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.member("ErrorCode", state(this)["fault"].code)


def _element(elements: list[Any], index: Any) -> Any:
    """Return an element; none, as the library after a message, if there is no such."""
    position = described(index)
    return elements[position] if 0 <= position < len(elements) else None


def _network_list(name: str, elements: Callable[[Any], list[Any]]) -> None:
    """Give networks a number of elements, and each of them by its index."""
    reads(f"INetworkDefinition.num_{name}s")(lambda library, this: len(elements(this)))
    method(f"INetworkDefinition.get_{name}")(
        lambda library, this, arguments: _element(elements(this), arguments["index"])
    )


def _ends(this: Any, *, inputs: bool) -> list[Any]:
    return [t for t in state(this)["tensors"] if state(t)["is_network_input"] is inputs]


_network_list("input", partial(_ends, inputs=True))
_network_list("output", partial(_ends, inputs=False))
_network_list("layer", lambda this: state(this)["layers"])
