"""Quantized attention products: torch, floats on the grids, and integers give the same numbers.

The results are compared as the next layer sees them, rounded to 8 bits: they may differ by one step
in one of a thousand values.
"""

import functools
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

from qsam2_deploy.engines.onnxruntime import cpu as ort
from qsam2_deploy.engines.onnxruntime.cpu import session_from_lowered
from qsam2_deploy.engines.openvino.requests import INTEGERS, products
from qsam2_deploy.errors import EngineError
from qsam2_deploy.lowering import (
    OPENVINO_QUERY_BLOCK,
    lower_for_openvino,
    lower_for_ort,
    lower_for_tensorrt_int4,
    lower_for_tensorrt_int8,
    lower_to_float,
)
from qsam2_deploy.lowering.integer_matmul import FUSED
from tests.support.attention_products import Shape, feeds_of, graph_of_product, make_product
from tests.support.graphs import compiled, kernels_of
from tests.support.plain_engine import run_plainly
from tests.support.quantized_layers import steps_apart

SHAPES = [Shape(64, 700), Shape(49, 64, heads=3), Shape(1100, 300)]


def run(model: onnx.ModelProto, inputs: list[torch.Tensor]) -> np.ndarray:
    return run_plainly(model, feeds_of(inputs))[0]


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.ptp(expected) > 1
    apart = steps_apart(found, expected, float(np.ptp(expected)) / 255)
    assert apart.max() <= 1
    assert np.mean(apart > 0) <= 1e-3
    assert np.mean(np.abs(found - expected) > 1e-5 * np.ptp(expected)) <= 0.01


@functools.cache
def _newest_ir_version() -> int:
    """Return the newest format that the installed ONNX Runtime reads; lowered models have 8."""
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    for version in range(onnx.IR_VERSION, 8, -1):
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
        try:
            session_from_lowered(model.SerializeToString(), "g", 1)
        except EngineError:
            continue
        return version
    return 8


@pytest.mark.parametrize("opset", [17, 18, 25])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_forms_are_what_was_trained(shape, opset):
    product, inputs = make_product(shape)
    expected = product(*inputs).numpy()
    canonical = graph_of_product(product, shape, opset)
    assert canonical.opset_import[0].version == opset
    if canonical.ir_version <= _newest_ir_version():
        assert_equal(run(canonical, inputs), expected)
    for lower in (lower_to_float, lower_for_openvino, ort.lower_here):
        model = graph_of_product(product, shape, opset)
        lower(model)
        assert model.opset_import[0].version == 17
        assert_equal(run(model, inputs), expected)
        kinds = Counter(node.op_type for node in model.graph.node)
        assert (kinds["QuantizeLinear"] > 0) == (lower is not lower_to_float)
        assert (kinds[FUSED] > 0) == (lower is ort.lower_here)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_what_was_trained(shape, library):
    product, inputs = make_product(shape)
    model = graph_of_product(product, shape)
    lower_for_ort(model, kernels=True)
    assert [n.op_type for n in model.graph.node].count("QuantizedAttention") == 1
    session = session_from_lowered(model.SerializeToString(), "c", 1, kernels=library)
    assert_equal(session.run(None, feeds_of(inputs))[0], product(*inputs).numpy())


@pytest.mark.parametrize("lower", [lower_for_tensorrt_int8, lower_for_tensorrt_int4])
def test_tensorrt_attends_in_floats(lower):
    shape = SHAPES[1]
    product, inputs = make_product(shape)
    model = graph_of_product(product, shape)
    lower(model)
    assert {"QuantizeLinear", "Exp"}.isdisjoint(n.op_type for n in model.graph.node)
    expected = F.scaled_dot_product_attention(*inputs).numpy()
    np.testing.assert_allclose(run(model, inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_openvino_attends_in_integers(shape):
    product, inputs = make_product(shape)
    model = graph_of_product(product, shape)
    lower_for_openvino(model)
    made = compiled(model)
    assert_equal(made(feeds_of(inputs))[0], product(*inputs).numpy())
    kernels = [k.lower() for kind, k in kernels_of(made) if kind in ("MatMul", "FullyConnected")]
    blocks = -(-shape.queries // OPENVINO_QUERY_BLOCK)
    assert len(kernels) == 2 * blocks
    in_integers = products() == INTEGERS
    assert all(kernel.endswith(("i8", "u8")) == in_integers for kernel in kernels), kernels
