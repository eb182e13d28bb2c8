"""A convolution's result that is added to a larger batch is repeated before."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.engines.openvino.requests import shared_core
from qsam2_deploy.lowering.repeat_batch import repeat_batch


def sum_of_convolutions(shared: int | str, batch: int | str, *, swapped: bool) -> onnx.ModelProto:
    """``conv(x) + conv(y)`` with batches of ``shared`` and ``batch``."""
    info, make = helper.make_tensor_value_info, helper.make_node
    weight = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    summands = ["b", "a"] if swapped else ["a", "b"]
    graph = helper.make_graph(
        [
            make("Conv", ["x", "w"], ["a"], "first"),
            make("Conv", ["y", "w"], ["b"], "second"),
            make("Add", summands, ["s"], "sum"),
            make("Relu", ["s"], ["z"], "last"),
        ],
        "g",
        [info("x", TensorProto.FLOAT, [shared, 3, 5, 5]),
         info("y", TensorProto.FLOAT, [batch, 3, 5, 5])],
        [info("z", TensorProto.FLOAT, [None, 4, 5, 5])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"x": (1, 3, 5, 5), "y": (batch, 3, 5, 5)}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", ["B", 3])
def test_same_numbers(size: int | str, swapped: bool) -> None:
    model = sum_of_convolutions(1, size, swapped=swapped)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds(3))[0]
    assert repeat_batch(model) == 1
    onnx.checker.check_model(model, full_check=True)
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds(3))[0]
    assert before.shape == (3, 4, 5, 5)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert repeat_batch(model) == 0


def test_equal_batches_are_left_alone() -> None:
    for batch in ("B", 1):
        assert repeat_batch(sum_of_convolutions(batch, batch, swapped=False)) == 0


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_openvino_repeats_it(batch: int) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    model = sum_of_convolutions(1, "B", swapped=False)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds(batch))[0]
    repeat_batch(model)
    core = shared_core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU")
    found = next(iter(compiled.create_infer_request().infer(feeds(batch)).values()))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
