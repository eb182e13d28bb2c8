"""Which multiply-adds of a quantized model run in integers, as the engine's own graph says.

Multiply-adds are counted in the canonical graph, at one object with all memory slots filled. A
layer runs in integers if the graph that ONNX Runtime writes after its own optimizations has an
integer operator of its name.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from qsam2_deploy.runtime.lowering import (
    integers_of_constants,
    lower_for_ort,
    lower_to_float,
)
from qsam2_deploy.runtime.lowering.graph import GraphIndex, attribute
from qsam2_deploy.runtime.lowering.integer_conv import CONV
from qsam2_deploy.runtime.lowering.integer_matmul import FUSED

SIZES = {"B": 1, "F": 7, "N": 16, "P": 2}
_LAYERS = ("MatMul", "Conv", "ConvTranspose")


def multiply_adds(component: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of each quantized layer, by the name of its node."""
    plain = onnx.ModelProto()
    plain.CopyFrom(component)
    lower_to_float(plain)
    shapes = _shapes(plain)
    widened = onnx.ModelProto()
    widened.CopyFrom(component)
    integers_of_constants(widened)
    index = GraphIndex(widened)
    counts = {}
    for node in widened.graph.node:
        weight = index.quantized_constant(node.input[1]) if node.op_type in _LAYERS else None
        if weight is not None:
            dims = list(index.constants[weight.input[0]].dims)
            counts[node.name] = _count(node, dims, shapes)
    return counts


def integer_layers(component: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that multiply integers, after ONNX Runtime's optimizations."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(component)
    lower_for_ort(lowered)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers", "QDQPropagationTransformer"
        )
        onnxruntime.InferenceSession(
            lowered.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        optimised = onnx.load(path)
    return {node.name for node in optimised.graph.node if node.op_type in (FUSED, CONV)}


def integer_share(components: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
    """Return the share of multiply-adds that run in integers: of each component, and of all."""
    found, total = {}, [0, 0]
    for name, component in components.items():
        counts, integers = multiply_adds(component), integer_layers(component)
        parts = [sum(n for k, n in counts.items() if k in integers), sum(counts.values())]
        found[name] = parts[0] / parts[1] if parts[1] else math.nan
        total = [total[0] + parts[0], total[1] + parts[1]]
    found["all"] = total[0] / total[1]
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    for tensor in (*model.graph.input, *model.graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param in SIZES:
                dim.dim_value = SIZES[dim.dim_param]
    inferred: Any = onnx.shape_inference.infer_shapes(model, data_prop=True)
    infos = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    return {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}


def _count(node: onnx.NodeProto, weight: list[int], shapes: Mapping[str, list[int]]) -> int:
    output = math.prod(shapes[node.output[0]])
    if node.op_type == "MatMul":
        return output * weight[0]
    if node.op_type == "Conv":
        return output * math.prod(weight[1:])
    stride = math.prod(attribute(node, "strides", [1, 1]))
    return output // stride * weight[0] * math.prod(weight[2:])
