"""Tokens of three dimensions give the numbers of those of four."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qsam2_deploy.lowering.flatten_tokens import flatten_tokens
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

H, W, C = 4, 6, 8


def block(batch: int | str = 1, *, windows: Sequence[int] = (2, 2, 3, 2, C)) -> onnx.ModelProto:
    """A residual around a quantized linear layer, and another that is attended to in windows."""
    make = helper.make_node
    rng = np.random.default_rng(0)
    constants = {
        "g": rng.uniform(0.5, 1.5, C).astype(np.float32),
        "b": rng.standard_normal(C).astype(np.float32),
        "step": np.float32(0.02),
        "zero": np.int8(0),
        "w": rng.integers(-127, 128, (C, C), dtype=np.int8),
        "steps": np.full(C, 0.01, np.float32),
        "two": np.float32(2),
        "windows": np.array(windows),
        "grid": np.array([-1, H, W, C]),
    }
    nodes = [
        make("LayerNormalization", ["x", "g", "b"], ["n"], "norm", axis=-1),
        make("QuantizeLinear", ["n", "step", "zero"], ["q"], "codes"),
        make("DequantizeLinear", ["q", "step", "zero"], ["d"], "on_grid"),
        make("DequantizeLinear", ["w", "steps"], ["m"], "weight", axis=1),
        make("MatMul", ["d", "m"], ["p"], "product"),
        make("Add", ["p", "b"], ["l"], "bias"),
        make("Mul", ["l", "two"], ["l2"], "twice"),
        make("Add", ["x", "l2"], ["r"], "residual"),
        make("Reshape", ["r", "windows"], ["v"], "to_windows"),
        make("Abs", ["v"], ["v1"], "in_windows"),
        make("Reshape", ["v1", "grid"], ["v2"], "from_windows"),
        make("Add", ["r", "v2"], ["y"], "last"),
        make("Transpose", ["r"], ["z"], "image", perm=[0, 3, 1, 2]),
    ]
    outputs = {"y": [batch, H, W, C], "z": [batch, C, H, W]}
    return model_of(nodes, {"x": [batch, H, W, C]}, outputs, constants)


def run(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    x = np.random.default_rng(1).standard_normal((batch, H, W, C)).astype(np.float32)
    return run_plainly(model, {"x": x})


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {i.name: len(i.type.tensor_type.shape.dim) for i in inferred.value_info}
    return {n.name: shapes[n.output[0]] for n in model.graph.node if n.output[0] in shapes}


@pytest.mark.parametrize(
    ("batch", "windows"), [(1, (2, 2, 3, 2, C)), ("B", (0, 2, 12, C)), ("B", (0, 0, W * C))]
)
def test_same_numbers(batch, windows):
    model, count = block(batch, windows=windows), 1 if batch == 1 else 3
    wanted = run(model, count)
    assert flatten_tokens(model) == 8
    for found, value in zip(run(model, count), wanted, strict=True):
        np.testing.assert_array_equal(found, value)
    found_ranks = ranks(model)
    flat = ("norm", "codes", "on_grid", "product", "bias", "twice", "residual", "last")
    assert {name: found_ranks[name] for name in flat} == dict.fromkeys(flat, 3)
    assert flatten_tokens(model) == 0


def test_a_reshape_of_all_tokens_reads_them_flat():
    model = block()
    flatten_tokens(model)
    to_windows = next(node for node in model.graph.node if node.name == "to_windows")
    assert to_windows.input[0].endswith("/flat")


def test_images_are_left_alone():
    """Operators by element alone, of which nobody knows that they have tokens."""
    make, shape = helper.make_node, [1, C, H, W]
    nodes = [make("Add", ["x", "x"], ["t"], "twice"), make("Relu", ["t"], ["y"], "last")]
    assert flatten_tokens(model_of(nodes, {"x": shape}, {"y": shape})) == 0


def test_a_summand_of_another_shape_stays():
    model = block()
    table = numpy_helper.from_array(np.ones((H, W, C), np.float32), "two")
    for tensor in model.graph.initializer:
        if tensor.name == "two":
            tensor.CopyFrom(table)
    wanted = run(model, 1)
    assert 0 < flatten_tokens(model) < 8
    for found, value in zip(run(model, 1), wanted, strict=True):
        np.testing.assert_array_equal(found, value)
