"""Quantized numbers as the floats that they stand for, to the bit."""

import numpy as np
import onnx
from onnx import helper

from qsam2_deploy.lowering.fold_activations import fold_activations
from qsam2_deploy.lowering.fold_weights import fold_weights
from qsam2_deploy.onnx_graph.index import value_of
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

STEP = np.float32(0.037)


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    return model_of(nodes, {"x": ["n", 4]}, {"y": ["m", "k"]}, constants)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run_plainly(model, {"x": x})[0]


def quantized_inputs() -> onnx.ModelProto:
    """One QuantizeLinear with two readers, as a layer in parts has them."""
    make = helper.make_node
    return graph_of(
        [
            make("QuantizeLinear", ["x", "step", "zero"], ["q"], "quantize"),
            make("DequantizeLinear", ["q", "step", "zero"], ["a"], "first"),
            make("DequantizeLinear", ["q", "step", "zero"], ["b"], "second"),
            make("Concat", ["a", "b"], ["y"], "concat", axis=0),
        ],
        step=STEP,
        zero=np.int8(0),
    )


def test_activations():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4000, 4)) * 3).astype(np.float32)
    # Values in the middle between two levels, and far outside.
    x[:512, 0] = (np.arange(512) - 255.5).astype(np.float32) * STEP
    x[0, 1:3] = 1e9, -1e9
    expected = run(quantized_inputs(), x)
    model = quantized_inputs()
    assert fold_activations(model) == 1
    kinds = [node.op_type for node in model.graph.node]
    assert sorted(kinds) == ["Clip", "Concat", "Div", "Mul", "Mul", "Round"]
    np.testing.assert_array_equal(run(model, x), expected)
    assert len(np.unique(expected)) == 256
    assert fold_activations(model) == 0


def test_weights_that_meet_integers_can_be_left():
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "step", "zero"], ["q"], "quantize"),
        make("DequantizeLinear", ["q", "step", "zero"], ["d"], "dequantize"),
        make("DequantizeLinear", ["codes", "step"], ["w"], "weight"),
        make("MatMul", ["d", "w"], ["m"], "integers"),
        make("DequantizeLinear", ["codes", "step"], ["v"], "other"),
        make("MatMul", ["m", "v"], ["y"], "floats"),
    ]
    codes = np.arange(16, dtype=np.int8).reshape(4, 4)
    model = graph_of(nodes, codes=codes, step=STEP, zero=np.int8(0))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    expected = run(model, x)
    assert fold_weights(model, float_products_only=True) == 1
    assert [node.name for node in model.graph.node] == [
        "quantize", "dequantize", "weight", "integers", "floats",
    ]  # fmt: skip
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-6)


def test_weights():
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (4, 5, 2)).astype(np.int8)
    scale = rng.random(5).astype(np.float32)
    make = helper.make_node
    nodes = [
        make("DequantizeLinear", ["codes", "scale"], ["w"], "weight", axis=1),
        make("DequantizeLinear", ["codes", "step"], ["v"], "whole"),
        make("Add", ["w", "v"], ["u"], "sum"),
        make("Reshape", ["u", "shape"], ["flat"], "reshape"),
        make("MatMul", ["x", "flat"], ["y"], "matmul"),
    ]
    constants = {"codes": codes, "scale": scale, "step": STEP, "shape": np.array([4, 10])}
    x = np.eye(4, dtype=np.float32)
    expected = run(graph_of(nodes, **constants), x)
    model = graph_of(nodes, **constants)
    assert fold_weights(model) == 2
    assert [node.op_type for node in model.graph.node] == ["Add", "Reshape", "MatMul"]
    stored = {tensor.name: value_of(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(stored["w"], codes * scale[:, None])
    np.testing.assert_array_equal(stored["v"], codes * STEP)
    assert "codes" not in stored
    np.testing.assert_array_equal(run(model, x), expected)
    assert fold_weights(model) == 0
