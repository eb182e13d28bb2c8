"""Attention products without their steps are ordinary attention."""

from collections import Counter

import numpy as np
import onnx
import pytest

from qsam2_deploy.lowering.float_attention import float_attention
from tests.lowering.attention_graph import STEPS, attention_graph, expected, random_factors, run


def softmax_attention(factors: dict[str, np.ndarray]) -> np.ndarray:
    q, k, v = (factors[n].astype(np.float64) for n in ("q", "k", "v"))
    scores = q @ np.swapaxes(k, -1, -2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights @ v / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("heads", [0, 3])
def test_it_is_ordinary_attention(heads):
    factors = random_factors(20, 50, heads)
    model = attention_graph(20, 50, heads)
    assert float_attention(model) == 1
    onnx.checker.check_model(model, full_check=True)
    wanted = softmax_attention(factors)
    np.testing.assert_allclose(run(model, factors), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(expected(factors) - wanted).max() > 1e-3  # the integers were coarser
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds == {"Identity": 2, "Transpose": 1, "MatMul": 2, "Softmax": 1}
    assert float_attention(model) == 0


def test_values_on_a_narrow_grid_stay_on_it():
    factors = random_factors(20, 50)
    model = attention_graph(20, 50, limit=0.1)
    assert float_attention(model) == 1
    codes = np.rint(np.clip(factors["v"], -0.1, 0.1) / STEPS["v"])
    assert len(np.unique(codes)) == 5
    wanted = softmax_attention(factors | {"v": codes * STEPS["v"]})
    np.testing.assert_allclose(run(model, factors), wanted, rtol=1e-4, atol=1e-5)
