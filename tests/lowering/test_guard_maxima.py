"""Scores of narrow grids whose maxima OpenVINO would scale twice."""

import numpy as np
import onnx
import pytest

from qsam2_deploy.engines.exactness import inexact_products
from qsam2_deploy.engines.openvino.requests import _probe, engine_settings
from qsam2_deploy.lowering import lower_for_openvino
from qsam2_deploy.lowering.guard_maxima import guard_maxima
from tests.lowering.attention_graph import (
    assert_same,
    attention_graph,
    expected,
    random_factors,
    run,
)
from tests.support.graphs import compiled

LIMIT = 1.5


@pytest.mark.parametrize("heads", [0, 3])
def test_results_stay(heads):
    factors = random_factors(20, 50, heads)
    model = attention_graph(20, 50, heads, limit=LIMIT)
    wanted = run(model, factors)
    assert guard_maxima(model) == 1
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, factors), wanted)
    scores = next(node for node in model.graph.node if node.name == "scores")
    users = [node.op_type for node in model.graph.node if scores.output[0] in node.input]
    assert users == ["Max"]


def test_without_narrow_grids_nothing_changes():
    model = attention_graph(20, 50)
    before = model.SerializeToString()
    assert guard_maxima(model) == 0
    assert model.SerializeToString() == before


@pytest.mark.parametrize("heads", [0, 3])
def test_openvino_computes_narrow_grids(heads):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    factors = random_factors(20, 50, heads)
    model = attention_graph(20, 50, heads, limit=LIMIT)
    lower_for_openvino(model)
    # Integers where those of 8 bits are exact: the engine itself turns to floats if these are not.
    integers = not inexact_products(_probe(integers=True))
    settings = engine_settings(1, integers=integers) | {"SNIPPETS_MODE": "DISABLE"}
    found = compiled(model, settings)(factors)["y"]
    assert_same(found, expected(factors, LIMIT))
