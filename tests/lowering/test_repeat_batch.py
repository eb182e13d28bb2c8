"""A convolution's result that is added to a larger batch is repeated before."""

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.repeat_batch import repeat_batch
from tests.support.graphs import compiled, model_of
from tests.support.plain_engine import run_plainly


def sum_of_convolutions(shared: int | str, batch: int | str, *, swapped: bool) -> onnx.ModelProto:
    """``conv(x) + conv(y)`` with batches of ``shared`` and ``batch``."""
    make = helper.make_node
    weight = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    summands = ["b", "a"] if swapped else ["a", "b"]
    nodes = [
        make("Conv", ["x", "w"], ["a"], "first"),
        make("Conv", ["y", "w"], ["b"], "second"),
        make("Add", summands, ["s"], "sum"),
        make("Relu", ["s"], ["z"], "last"),
    ]
    inputs = {"x": [shared, 3, 5, 5], "y": [batch, 3, 5, 5]}
    return model_of(nodes, inputs, {"z": [None, 4, 5, 5]}, {"w": weight})


def feeds(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"x": (1, 3, 5, 5), "y": (batch, 3, 5, 5)}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", ["B", 3])
def test_same_numbers(size, swapped):
    model = sum_of_convolutions(1, size, swapped=swapped)
    (before,) = run_plainly(model, feeds(3))
    assert repeat_batch(model) == 1
    (after,) = run_plainly(model, feeds(3))
    assert before.shape == (3, 4, 5, 5)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert repeat_batch(model) == 0


def test_equal_batches_are_left_alone():
    for batch in ("B", 1):
        assert repeat_batch(sum_of_convolutions(batch, batch, swapped=False)) == 0


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_openvino_repeats_it(batch):
    model = sum_of_convolutions(1, "B", swapped=False)
    (expected,) = run_plainly(model, feeds(batch))
    repeat_batch(model)
    found = compiled(model, {})(feeds(batch))["z"]
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
