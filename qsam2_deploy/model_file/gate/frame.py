"""Checks of what is around the graph: versions, metadata, inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ModelFileError
from ...spec import COMPONENTS, SPEC_KEY, ModelSpec, graph_name
from .limits import MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, MAX_NAME
from .operators import IR_VERSIONS, OPSETS
from .wording import refusal, shown

if TYPE_CHECKING:
    import onnx

_MODEL = {
    "ir_version", "producer_name", "producer_version", "graph", "opset_import", "metadata_props",
}  # fmt: skip
_GRAPH = {"name", "node", "initializer", "input", "output"}


def check_frame(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Check all of a model but its nodes and constants.

    Raises:
        ModelFileError: it has parts that qsam2-export does not write, is of another version of
            ONNX, or lacks an input or output.
    """
    _check_parts(model, _MODEL, "model", origin)
    _check_parts(model.graph, _GRAPH, "graph", origin)
    # Some versions of protobuf give bytes for a text that is not UTF-8.
    for text in (model.producer_name, model.producer_version, model.graph.name):
        if not isinstance(text, str) or len(text) > MAX_NAME:
            raise refusal(origin, f"it has the text {shown(text)}, expected UTF-8")
    _check_versions(model, origin)
    _check_metadata(model, origin)
    _check_ends(model, spec, origin)


def _check_parts(message: Any, allowed: set[str], kind: str, origin: str) -> None:
    """Refuse functions, training information, sparse initializers and whatever comes later."""
    other = [field.name for field, _ in message.ListFields() if field.name not in allowed]
    if other:
        raise refusal(origin, f"its {kind} has the part {other[0]}, which no such model has")


def _check_versions(model: onnx.ModelProto, origin: str) -> None:
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    if len(imports) != 1 or imports[0][0] or imports[0][1] not in OPSETS:
        raise refusal(
            origin,
            f"it imports the operator sets {shown(imports)}, expected ONNX's own of version "
            f"{OPSETS[0]} to {OPSETS[-1]}",
        )
    if model.ir_version not in IR_VERSIONS:
        raise refusal(
            origin,
            f"it has the IR version {model.ir_version}, expected {IR_VERSIONS[0]} to "
            f"{IR_VERSIONS[-1]}",
        )


def _check_metadata(model: onnx.ModelProto, origin: str) -> None:
    entries = [(entry.key, entry.value) for entry in model.metadata_props]
    size = sum(len(key) + len(value) for key, value in entries)
    if len(entries) > MAX_METADATA_ENTRIES or size > MAX_METADATA_BYTES:
        raise refusal(
            origin,
            f"it has {len(entries)} entries of metadata with {size} letters, but may have "
            f"{MAX_METADATA_ENTRIES} with {MAX_METADATA_BYTES}",
        )
    if sum(key == SPEC_KEY for key, _ in entries) > 1:
        raise refusal(origin, f"it has the entry {SPEC_KEY!r} twice")


def _check_ends(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Check the names of inputs and outputs, and that they say type and shape alone."""
    for kind, infos in (("input", model.graph.input), ("output", model.graph.output)):
        found = [info.name for info in infos]
        expected = set()
        for name in COMPONENTS:
            for tensor in getattr(spec.component(name), f"{kind}s"):
                expected.add(graph_name(name, tensor.name))
                if graph_name(name, tensor.name) not in found:
                    raise ModelFileError(
                        f"the model's component {name} has no {kind} {tensor.name!r}; export it "
                        "again"
                    )
        if len(found) != len(expected):
            other = next((name for name in found if name not in expected), "one twice")
            raise refusal(origin, f"it has the {kind} {shown(other)}, which no such model has")
        for info in infos:
            _check_info(info, kind, origin)


def _check_info(info: onnx.ValueInfoProto, kind: str, origin: str) -> None:
    levels = (
        (info, {"name", "type"}),
        (info.type, {"tensor_type"}),
        (info.type.tensor_type, {"elem_type", "shape"}),
        (info.type.tensor_type.shape, {"dim"}),
        *((dim, {"dim_value", "dim_param"}) for dim in info.type.tensor_type.shape.dim),
    )
    for message, allowed in levels:
        _check_parts(message, allowed, f"{kind} {shown(info.name)}", origin)
