"""Blocks of weights are the same weights; activations are left in floats."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.lowering.block_weights import block_weights
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

OUT = 6


def quantized_linear(inputs: int, limit: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A linear layer with Clip and QDQ on its input; return it and its weight in floats."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-limit - 1, limit + 1, (inputs, OUT)).astype(np.int8)
    codes[0, 0] = limit
    scale = (rng.random(OUT) + 0.5).astype(np.float32) * 0.01
    constants = {
        "step": np.float32(0.5),
        "zero": np.int8(0),
        "low": np.float32(-1.0),
        "high": np.float32(0.5),
        "codes": codes,
        "scales": scale,
        "bias": rng.random(OUT).astype(np.float32),
    }
    make = helper.make_node
    nodes = [
        make("Clip", ["x", "low", "high"], ["c"], "clip"),
        make("QuantizeLinear", ["c", "step", "zero"], ["q"], "quantize"),
        make("DequantizeLinear", ["q", "step", "zero"], ["d"], "dequantize"),
        make("DequantizeLinear", ["codes", "scales"], ["w"], "weight", axis=1),
        make("MatMul", ["d", "w"], ["m"], "matmul"),
        make("Add", ["m", "bias"], ["y"], "add"),
    ]
    return model_of(nodes, {"x": ["n", inputs]}, {"y": ["n", OUT]}, constants), codes * scale


@pytest.mark.parametrize(("inputs", "block"), [(256, 128), (192, 64), (128, 64)])
def test_same_weights_in_blocks(inputs, block):
    model, weight = quantized_linear(inputs, limit=7)
    assert block_weights(model) == 1
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["DequantizeLinear", "MatMul", "Add"]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert stored["codes/int4"].data_type == TensorProto.INT4
    assert list(stored["scales/blocks"].dims) == [inputs // block, OUT]
    assert "codes" not in stored
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    x = np.random.default_rng(1).standard_normal((5, inputs)).astype(np.float32)
    bias = numpy_helper.to_array(stored["bias"])
    (found,) = run_plainly(model, {"x": x})
    np.testing.assert_allclose(found, x @ weight + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("inputs", "limit"), [(112, 7), (64, 7), (256, 15)])
def test_other_weights_keep_their_type(inputs, limit):
    """No block divides 112 inputs, 64 are a single one, and INT4 cannot hold 5 bits."""
    model, weight = quantized_linear(inputs, limit)
    assert block_weights(model) == 0
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert stored["codes"].data_type == TensorProto.INT8
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
    x = np.random.default_rng(1).standard_normal((5, inputs)).astype(np.float32)
    expected = x @ weight + numpy_helper.to_array(stored["bias"])
    np.testing.assert_allclose(run_plainly(model, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)
