"""A bicubic resize of a constant is two products."""

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.resize_constants import cubic_matrix, resize_constants
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly


def resized(
    size: tuple[int, int], new_size: tuple[int, int], *, constant: bool = True, mode: str = "cubic"
) -> onnx.ModelProto:
    """Add a resized table to the input."""
    make = helper.make_node
    table = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    constants = {"sizes": np.array([1, 3, *new_size])} | ({"table": table} if constant else {})
    attributes = {"coordinate_transformation_mode": "half_pixel", "mode": mode}
    if mode == "cubic":
        attributes["cubic_coeff_a"] = -0.75
    inputs = {"x": [1, 3, *new_size]} | ({} if constant else {"table": [1, 3, *size]})
    nodes = [
        make("Resize", ["table", "", "", "sizes"], ["t"], "resize", **attributes),
        make("Add", ["x", "t"], ["y"], "add"),
    ]
    return model_of(nodes, inputs, {"y": [1, 3, *new_size]}, constants)


@pytest.mark.parametrize(
    ("size", "new_size"),
    [((7, 7), (64, 64)), ((14, 14), (20, 33)), ((9, 8), (5, 8)), ((1, 2), (4, 4))],
)
def test_same_numbers(size, new_size):
    model = resized(size, new_size)
    x = {"x": np.zeros((1, 3, *new_size), np.float32)}
    (wanted,) = run_plainly(model, x)
    assert resize_constants(model) == 1
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul", "Add"]
    np.testing.assert_allclose(run_plainly(model, x)[0], wanted, atol=2e-5)


def test_other_resizes_are_left_alone():
    assert resize_constants(resized((7, 7), (14, 14), constant=False)) == 0
    assert resize_constants(resized((7, 7), (14, 14), mode="linear")) == 0


def test_the_same_size_is_the_identity():
    np.testing.assert_allclose(cubic_matrix(5, 5, -0.75), np.eye(5), atol=1e-7)


def test_rows_sum_to_one():
    np.testing.assert_allclose(cubic_matrix(7, 256, -0.75).sum(1), 1, atol=1e-6)
