"""A bicubic resize of a constant is two products."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.lowering.resize_constants import cubic_matrix, resize_constants


def resized(
    size: tuple[int, int], new_size: tuple[int, int], *, constant: bool = True, mode: str = "cubic"
) -> onnx.ModelProto:
    """Add a resized table to the input."""
    info, make = helper.make_tensor_value_info, helper.make_node
    table = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    constants = {"sizes": np.array([1, 3, *new_size])} | ({"table": table} if constant else {})
    attributes = {"coordinate_transformation_mode": "half_pixel", "mode": mode}
    if mode == "cubic":
        attributes["cubic_coeff_a"] = -0.75
    inputs = [info("x", TensorProto.FLOAT, [1, 3, *new_size])]
    if not constant:
        inputs.append(info("table", TensorProto.FLOAT, [1, 3, *size]))
    graph = helper.make_graph(
        [
            make("Resize", ["table", "", "", "sizes"], ["t"], "resize", **attributes),
            make("Add", ["x", "t"], ["y"], "add"),
        ],
        "g",
        inputs,
        [info("y", TensorProto.FLOAT, [1, 3, *new_size])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"x": x}
    )[0]
    return result


@pytest.mark.parametrize(
    ("size", "new_size"),
    [((7, 7), (64, 64)), ((14, 14), (20, 33)), ((9, 8), (5, 8)), ((1, 2), (4, 4))],
)
def test_same_numbers(size: tuple[int, int], new_size: tuple[int, int]) -> None:
    model = resized(size, new_size)
    x = np.zeros((1, 3, *new_size), np.float32)
    wanted = run(model, x)
    assert resize_constants(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul", "Add"]
    np.testing.assert_allclose(run(model, x), wanted, atol=2e-5)


def test_other_resizes_are_left_alone() -> None:
    assert resize_constants(resized((7, 7), (14, 14), constant=False)) == 0
    assert resize_constants(resized((7, 7), (14, 14), mode="linear")) == 0


def test_the_same_size_is_the_identity() -> None:
    np.testing.assert_allclose(cubic_matrix(5, 5, -0.75), np.eye(5), atol=1e-7)


def test_rows_sum_to_one() -> None:
    np.testing.assert_allclose(cubic_matrix(7, 256, -0.75).sum(1), 1, atol=1e-6)
