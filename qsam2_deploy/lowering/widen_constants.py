"""Bring packed integers and halves to the types that every engine computes with.

A file holds weights of 2 to 4 bits in INT2 and INT4, which no engine multiplies on a CPU: they
would be computed with in floats, or not at all. As INT8 the same codes run in the same integer
products as those of 8 bits.

Requires: nodes that mean the same in opsets 17 to 25, as the export writes them. Ensures: the same
numbers; no INT4, INT2 or FLOAT16 initializer, and no Cast behind one; opset 17, in which ReduceMax
has its axes as an attribute.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .._common.packing import unpack
from ..errors import ModelFileError
from ..onnx_graph.index import GraphIndex, replace_nodes, value_of

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8

PACKED_TYPES = {22: 4, 26: 2}
"""Widths of the types INT4 and INT2; older versions of onnx know only the numbers."""


def widen_constants(model: onnx.ModelProto) -> int:
    """Widen the initializers of ``model`` in place.

    Returns:
        How many were widened.

    Raises:
        ModelFileError: an initializer has more or fewer bytes than its shape needs; names it.
    """
    count = 0
    for tensor in model.graph.initializer:
        if tensor.data_type in PACKED_TYPES:
            _unpack(tensor)
            count += 1
    count += _widen_halves(model)
    for entry in model.opset_import:
        if entry.domain == "" and entry.version > OPSET:
            entry.version = OPSET
            model.ir_version = IR_VERSION
            _axes_as_attributes(model)
    return count


def _axes_as_attributes(model: onnx.ModelProto) -> None:
    from onnx import helper

    constants = GraphIndex(model).constants
    for node in model.graph.node:
        if node.op_type == "ReduceMax" and len(node.input) > 1:
            axes = value_of(constants[node.input[1]]).tolist()
            node.attribute.append(helper.make_attribute("axes", axes))
            del node.input[1:]


def _unpack(tensor: onnx.TensorProto) -> None:
    from onnx import TensorProto

    try:
        codes = unpack(tensor.raw_data, PACKED_TYPES[tensor.data_type], math.prod(tensor.dims))
    except ValueError as error:
        raise ModelFileError(
            f"the weight {tensor.name} is damaged: {error}; export the model again"
        ) from error
    tensor.data_type, tensor.raw_data = TensorProto.INT8, codes.tobytes()


def _widen_halves(model: onnx.ModelProto) -> int:
    from onnx import TensorProto, numpy_helper

    index = GraphIndex(model)
    halves = {n: t for n, t in index.constants.items() if t.data_type == TensorProto.FLOAT16}
    casts = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and node.input[0] in halves
    }
    for name in set(casts.values()):
        values = value_of(halves[name]).astype(np.float32)
        halves[name].CopyFrom(numpy_helper.from_array(values, name))
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = casts.get(name, name)
    if casts:
        replace_nodes(model, {})
    return len(set(casts.values()))
