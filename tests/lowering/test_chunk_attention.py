"""Attention in blocks of queries gives the numbers of attention in one piece."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from qsam2_deploy.lowering.chunk_attention import MIN_QUERIES, chunk_attention

WIDTH, KEYS = 8, 50


def attention_model(queries: int, heads: int | None, second_user: bool = False) -> onnx.ModelProto:
    lead = [1] if heads is None else [1, heads]
    names = {"q": [*lead, queries, WIDTH], "k": [*lead, WIDTH, KEYS], "v": [*lead, KEYS, 4]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in names.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*lead, queries, 4])]
    nodes = [
        # A node before the product: shapes of inner tensors are inferred, not given.
        helper.make_node("Identity", ["q"], ["q1"], "first"),
        helper.make_node("MatMul", ["q1", "k"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"], "context"),
    ]
    if second_user:
        nodes.append(helper.make_node("Identity", ["scores"], ["s"], "other"))
        outputs.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "attention", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    feeds = {
        i.name: rng.standard_normal(i.shape).astype(np.float32) * 2 for i in session.get_inputs()
    }
    return session.run(["y"], feeds)[0]


@pytest.mark.parametrize("heads", [None, 3])
@pytest.mark.parametrize("block", [64, 300, 5000])
def test_same_numbers(heads: int | None, block: int) -> None:
    expected = run(attention_model(MIN_QUERIES, heads))
    model = attention_model(MIN_QUERIES, heads)
    assert chunk_attention(model, block) == 1
    onnx.checker.check_model(model, full_check=True)
    blocks = sum(n.op_type == "Softmax" for n in model.graph.node)
    assert blocks == -(-MIN_QUERIES // block)
    np.testing.assert_allclose(run(model), expected, rtol=1e-6, atol=1e-6)


def test_few_queries_are_left_alone() -> None:
    model = attention_model(MIN_QUERIES - 1, None)
    assert chunk_attention(model, 64) == 0
    assert len(model.graph.node) == 4


def test_scores_that_are_used_elsewhere_are_left_alone() -> None:
    model = attention_model(MIN_QUERIES, None, second_user=True)
    assert chunk_attention(model, 64) == 0
