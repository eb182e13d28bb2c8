"""Where the bytes of a model file go."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from .._common.packing import stored_bits
from ..model_file.bundle import WholeModel
from ..onnx_graph.index import DEQUANTIZE, QUANTIZE, GraphIndex
from ..onnx_graph.stored_weights import stored_weights

NODES, NAMES = "nodes", "names and shapes of constants"
REST = "metadata and the rest"
STEPS, INTEGERS = "steps and ranges of quantizers", "integers of shapes"
_FLOATS = {1: "numbers in float32", 10: "numbers in float16"}


@dataclass(frozen=True)
class FileSizes:
    """The bytes of a file.

    Attributes:
        file: all of them.
        parameters: numbers that a float model of the same weights holds.
        parts: bytes by what they are for; their sum is ``file``.
    """

    file: int
    parameters: int
    parts: dict[str, int]

    @property
    def float32(self) -> int:
        """Bytes of the same weights in float32."""
        return 4 * self.parameters

    @property
    def bfloat16(self) -> int:
        """Bytes of the same weights in bfloat16."""
        return 2 * self.parameters


def file_sizes(whole: WholeModel) -> FileSizes:
    """Return where the bytes of a model go."""
    told, graph = whole.spec.quantization, whole.model.graph
    dequantize = [node for node in graph.node if node.op_type == DEQUANTIZE]
    of_quantizers = _quantizer_constants(whole)
    codes = {node.input[0] for node in dequantize}
    parts: Counter[str] = Counter()
    parameters = 0
    for tensor in graph.initializer:
        size = len(tensor.raw_data)
        count = math.prod(tensor.dims)
        kind = _FLOATS.get(tensor.data_type, INTEGERS)
        if tensor.name in codes and told is not None:
            widths = told.widths.get(tensor.name, told.usual_widths)
            kind = f"weights in {stored_bits(int(widths[1]))} bits"
            parameters += count
        elif tensor.name in of_quantizers:
            kind = STEPS
        elif tensor.data_type in _FLOATS:
            parameters += count
        parts[kind] += size
        parts[NAMES] += tensor.ByteSize() - size
    parts[NODES] = sum(node.ByteSize() for node in graph.node)
    parts[REST] = whole.size - sum(parts.values())
    return FileSizes(whole.size, parameters, dict(parts))


def _quantizer_constants(whole: WholeModel) -> set[str]:
    """Return the names of steps, zero-points, and the limits of the Clips before quantizers."""
    weights = stored_weights(whole.model, GraphIndex(whole.model)).values()
    producer = {out: node for node in whole.model.graph.node for out in node.output}
    found = {weight.scale for weight in weights}
    for node in whole.model.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            found.update(node.input[1:])
        before = producer.get(node.input[0]) if node.op_type == QUANTIZE else None
        if before is not None and before.op_type == "Clip":
            found.update(before.input[1:])
    # A half-precision constant is read through a Cast.
    found |= {producer[name].input[0] for name in found if name in producer}
    return found
