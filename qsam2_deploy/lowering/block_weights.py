"""Weights of up to 4 bits as TensorRT multiplies them: INT4 in blocks, with float activations.

TensorRT's INT4 is for weights alone, and its fast kernels want a scale for each block of 64 or 128
inputs. Repeating an output channel's scale over its blocks gives the same numbers. Activations stay
in floating point: they are finer than what was trained, never coarser.

Requires: ``MatMul(x, DequantizeLinear(codes))`` with INT8 codes ``[in, out]`` of at most 4 bits, a
scale per output channel, and ``in`` of two blocks or more. Ensures: INT4 codes and scales
``[in / block, out]`` in its place, opset 21; no QuantizeLinear. All other weights stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._common.packing import pack
from ..onnx_graph.index import GraphIndex, add_constant, replace_nodes, value_of
from .drop_activations import drop_activations

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 21, 10
BLOCKS = (128, 64)
"""Block sizes, the faster one first."""


def block_weights(model: onnx.ModelProto) -> int:
    """Block the weights of ``model`` in place, and drop the quantization of activations.

    Returns:
        How many weights are in INT4 now.
    """
    drop_activations(model)
    index = GraphIndex(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    for matmul in model.graph.node:
        weight = index.quantized_constant(matmul.input[1]) if matmul.op_type == "MatMul" else None
        if weight is None:
            continue
        codes = value_of(index.constants[weight.input[0]])
        block = _block_size(codes.shape[0])
        if block and codes.min() >= -8 and codes.max() <= 7:
            new[weight.name] = [_blocked(model, index, weight, block)]
    replace_nodes(model, new)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = OPSET
    model.ir_version = IR_VERSION
    return len(new)


def _block_size(inputs: int) -> int | None:
    # TensorRT-RTX 1.7 fails to compile the memory attention where a weight is a single block.
    fitting = (size for size in BLOCKS if inputs % size == 0 and inputs > size)
    return next(fitting, None)


def _blocked(
    model: onnx.ModelProto, index: GraphIndex, weight: onnx.NodeProto, block: int
) -> onnx.NodeProto:
    from onnx import TensorProto, helper

    codes, scale = (value_of(index.constants[name]) for name in weight.input[:2])
    stored = f"{weight.input[0]}/int4"
    if stored not in {tensor.name for tensor in model.graph.initializer}:
        model.graph.initializer.append(
            TensorProto(
                name=stored, data_type=TensorProto.INT4, dims=codes.shape, raw_data=pack(codes, 4)
            )
        )
    rows = codes.shape[0] // block
    blocks = np.ascontiguousarray(np.broadcast_to(scale, (rows, len(scale))))
    scales = add_constant(model, f"{weight.input[1]}/blocks", blocks)
    return helper.make_node(
        "DequantizeLinear",
        [stored, scales],
        list(weight.output),
        weight.name,
        axis=0,
        block_size=block,
    )
