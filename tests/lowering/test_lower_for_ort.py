"""All passes together: both kinds of rewrite happen in one quantized graph."""

import numpy as np
import onnx
from onnx import helper

from qsam2_deploy.lowering import QUERY_BLOCK, lower_for_ort
from qsam2_deploy.lowering.chunk_attention import MIN_QUERIES
from qsam2_deploy.lowering.integer_matmul import FUSED
from tests.support.graphs import model_of

WIDTH = 8


def quantized_attention() -> onnx.ModelProto:
    """A quantized linear layer whose output attends to itself."""
    constants = {
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "codes": np.ones((WIDTH, WIDTH), np.int8),
        "scales": np.full(WIDTH, 0.01, np.float32),
        "zeros": np.zeros(WIDTH, np.int8),
        "bias": np.zeros(WIDTH, np.float32),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantize"),
        make("DequantizeLinear", ["q", "scale", "zero"], ["d"], "dequantize"),
        make("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], "weight", axis=1),
        make("MatMul", ["d", "w"], ["m"], "matmul"),
        make("Add", ["m", "bias"], ["h"], "add"),
        make("Transpose", ["h"], ["k"], "transpose", perm=[0, 2, 1]),
        make("MatMul", ["h", "k"], ["scores"], "scores"),
        make("Softmax", ["scores"], ["p"], "softmax", axis=-1),
        make("MatMul", ["p", "h"], ["y"], "context"),
    ]
    shape = [1, MIN_QUERIES, WIDTH]
    return model_of(nodes, {"x": shape}, {"y": shape}, constants)


def test_integer_products_do_not_hide_the_attention():
    model = quantized_attention()
    lower_for_ort(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count(FUSED) == 1
    assert kinds.count("Softmax") == -(-MIN_QUERIES // QUERY_BLOCK)
