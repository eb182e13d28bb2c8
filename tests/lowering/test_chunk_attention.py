"""Attention in blocks of queries gives the numbers of attention in one piece."""

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.chunk_attention import MIN_QUERIES, chunk_attention
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

WIDTH, KEYS = 8, 50


def attention_model(queries: int, heads: int | None, second_user: bool = False) -> onnx.ModelProto:
    lead = [1] if heads is None else [1, heads]
    names = {"q": [*lead, queries, WIDTH], "k": [*lead, WIDTH, KEYS], "v": [*lead, KEYS, 4]}
    outputs: dict[str, list[int] | None] = {"y": [*lead, queries, 4]}
    nodes = [
        # A node before the product: shapes of inner tensors are inferred, not given.
        helper.make_node("Identity", ["q"], ["q1"], "first"),
        helper.make_node("MatMul", ["q1", "k"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"], "context"),
    ]
    if second_user:
        nodes.append(helper.make_node("Identity", ["scores"], ["s"], "other"))
        outputs["s"] = None
    return model_of(nodes, names, outputs)


def run(model: onnx.ModelProto) -> np.ndarray:
    rng = np.random.default_rng(0)
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input
    }
    feeds = {n: rng.standard_normal(s).astype(np.float32) * 2 for n, s in shapes.items()}
    return run_plainly(model, feeds)[0]


@pytest.mark.parametrize("heads", [None, 3])
@pytest.mark.parametrize("block", [64, 300, 5000])
def test_same_numbers(heads, block):
    expected = run(attention_model(MIN_QUERIES, heads))
    model = attention_model(MIN_QUERIES, heads)
    assert chunk_attention(model, block) == 1
    blocks = sum(n.op_type == "Softmax" for n in model.graph.node)
    assert blocks == -(-MIN_QUERIES // block)
    np.testing.assert_allclose(run(model), expected, rtol=1e-6, atol=1e-6)


def test_few_queries_are_left_alone():
    model = attention_model(MIN_QUERIES - 1, None)
    assert chunk_attention(model, 64) == 0
    assert len(model.graph.node) == 4


def test_scores_that_are_used_elsewhere_are_left_alone():
    model = attention_model(MIN_QUERIES, None, second_user=True)
    assert chunk_attention(model, 64) == 0
