"""As many queries as heads: the same numbers with one more query, in OpenVINO too."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.pad_queries import pad_queries
from tests.lowering import attention_graph
from tests.support.graphs import compiled, model_of
from tests.support.plain_engine import run_plainly

WINDOWS, WIDTH, KEYS = 3, 16, 9


def attention(heads: int, queries: int) -> onnx.ModelProto:
    """Attention in windows, whose heads are split off and joined by transposes."""
    make = helper.make_node
    shapes = {"q": [WINDOWS, queries, heads * WIDTH], "k": [WINDOWS, KEYS, heads * WIDTH]}
    shapes["v"] = shapes["k"]
    nodes = []
    for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        split, turned = f"{part}.split", f"{part}.turned"
        nodes.append(make("Reshape", [part, f"{part}.shape"], [split], split))
        nodes.append(make("Transpose", [split], [turned], turned, perm=perm))
    nodes += [
        make("MatMul", ["q.turned", "k.turned"], ["s"], "scores"),
        make("Softmax", ["s"], ["p"], "softmax", axis=-1),
        make("MatMul", ["p", "v.turned"], ["c"], "context"),
        make("Identity", ["c"], ["y"], "last"),
    ]
    constants = {f"{n}.shape": [*s[:2], heads, WIDTH] for n, s in shapes.items()}
    return model_of(nodes, shapes, {"y": [WINDOWS, heads, queries, WIDTH]}, constants)


def feeds(heads: int, queries: int) -> dict[str, Any]:
    rng = np.random.default_rng(heads)
    rows = {"q": queries, "k": KEYS, "v": KEYS}
    return {
        n: rng.standard_normal((WINDOWS, r, heads * WIDTH)).astype(np.float32)
        for n, r in rows.items()
    }


def run(model: onnx.ModelProto, x: dict[str, Any]) -> Any:
    return run_plainly(model, x)[0]


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_same_numbers(heads):
    x = feeds(heads, heads)
    expected = run(attention(heads, heads), x)
    model = attention(heads, heads)
    assert pad_queries(model) == 1
    assert expected.shape == (WINDOWS, heads, heads, WIDTH)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)
    assert pad_queries(model) == 0


def test_quantized_products():
    factors = attention_graph.random_factors(3, 20, heads=3)
    model = attention_graph.attention_graph(3, 20, heads=3)
    assert pad_queries(model) == 1
    attention_graph.assert_same(
        attention_graph.run(model, factors), attention_graph.expected(factors)
    )
    assert pad_queries(model) == 0


@pytest.mark.parametrize(("heads", "queries"), [(4, 5), (1, 1), (2, 4)])
def test_others_are_left_alone(heads, queries):
    assert pad_queries(attention(heads, queries)) == 0


@pytest.mark.parametrize(("heads", "queries"), [(4, 4), (8, 8), (2, 2), (4, 5)])
def test_openvino_computes_it_then(heads, queries):
    x = feeds(heads, queries)
    expected = run(attention(heads, queries), x)
    model = attention(heads, queries)
    pad_queries(model)
    found = compiled(model, {"INFERENCE_PRECISION_HINT": "f32"})(x)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
