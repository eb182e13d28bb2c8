"""Is a model file one that qsam2-export can have written?

A model file comes from anybody. What the exporter writes is finite, so a file is compared with
that once, after its digest and before any pass or engine sees it: parts, versions, operators,
attributes, names, who reads what, constants, and the type and size of every tensor. What is behind
the gate may rely on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._common.contradictions import contradictions
from ...spec import ModelSpec
from ..consistency import check_interface, check_quantization
from .constants import check_constants, check_constants_of_runtime, check_steps
from .frame import check_frame
from .limits import MAX_FILE_BYTES
from .nodes import NodeChecks
from .shapes import check_shapes
from .wording import refusal

if TYPE_CHECKING:
    import onnx

__all__ = ["MAX_FILE_BYTES", "check_model"]


def check_model(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Check a whole model as it was read from ``origin``, a name for messages.

    Fields that this version of ``onnx`` does not know are dropped from it.

    Raises:
        ModelFileError: qsam2-export cannot have written it, or it contradicts its metadata; one
            sentence.
    """
    model.DiscardUnknownFields()
    try:
        check_frame(model, spec, origin)
        largest = check_constants(model, origin)
        nodes = NodeChecks(model, origin)
        nodes.run()
    # Text is decoded when it is looked at, and all of it was.
    except UnicodeDecodeError as error:
        raise refusal(origin, "a name in it is not UTF-8") from error
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    check_steps(model.graph.node, tensors, nodes.casts, origin)
    check_interface(model, spec, origin)
    try:
        check_constants_of_runtime(spec)
    except ValueError as error:
        raise refusal(origin, f"in its metadata {error}") from error
    check_shapes(model, spec, largest, origin)
    with contradictions(origin, "it cannot be compared with its metadata"):
        check_quantization(model, spec, origin)
