"""Does the graph hold what the metadata says? A model that contradicts itself is not run."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .._packing import packed_size, stored_bits
from ..errors import ModelFileError
from ..spec import ModelSpec

if TYPE_CHECKING:
    import onnx

_WIDTHS = re.compile(r"w([2-8])a([2-8])")
_GRIDS = (
    ("symmetric/symmetric", "symmetric/affine"),
    ("midrise/symmetric", "midrise/affine"),
)
_TYPES = {3: 8, 22: 4, 26: 2}  # the numbers of INT8, INT4 and INT2, some of which old onnx lacks


def check_quantization(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Compare the quantized weights of a whole model with its metadata.

    Raises:
        ModelFileError: a weight is quantized in one of them only, has another grid, or is stored in
            another type or number of bytes than its width asks for; names the weight.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {
        node.input[0]: node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    # Only the codes of mid-rise weights are added to.
    added = {node.input[0] for node in model.graph.node if node.op_type == "Add"}
    told = spec.quantization
    count = told.weights if told is not None else 0
    if len(stored) != count:
        raise _contradiction(
            origin, f"{len(stored)} weights are quantized in the graph, {count} in the metadata"
        )
    if told is None:
        return
    for name in (*told.widths, *told.grids):
        if name not in stored:
            raise _contradiction(origin, f"the weight {name} is quantized in the metadata only")
    for name in sorted(stored):
        reason = _fault(constants[name], told.widths.get(name, told.usual_widths))
        grids = told.grids.get(name, told.usual_grids)
        if not reason and grids not in _GRIDS[stored[name] in added]:
            reason = f"has the grids {grids!r} in the metadata only"
        if reason:
            raise _contradiction(origin, f"the weight {name} {reason}")


def _fault(tensor: onnx.TensorProto, widths: str) -> str | None:
    match = _WIDTHS.fullmatch(widths) if isinstance(widths, str) else None
    if match is None:
        return f"has the widths {widths!r}, but they must be such as 'w4a8'"
    width = stored_bits(int(match[1]))
    if _TYPES.get(tensor.data_type) != width:
        return f"is of {match[1]} bits, but is not stored as INT{width}"
    expected = packed_size(math.prod(tensor.dims), width)
    if len(tensor.raw_data) != expected:
        return f"must have {expected} bytes, but has {len(tensor.raw_data)}"
    return None


def _contradiction(origin: str, reason: str) -> ModelFileError:
    return ModelFileError(
        f"the metadata and the graph of {origin} disagree: {reason}; export the model again"
    )
