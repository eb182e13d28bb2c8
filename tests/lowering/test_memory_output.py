"""What the builder adds behind the memory encoder."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.memory_output import finish_memory
from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits, to_bfloat16_bits
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly


def model(output: str = "memory") -> onnx.ModelProto:
    nodes, shape = [helper.make_node("Neg", ["x"], [output], "neg")], ["B", 2, 3, 3]
    return model_of(nodes, {"x": shape}, {output: shape}, opset=19)


def run(component: onnx.ModelProto, x: Any) -> dict[str, Any]:
    names = [output.name for output in component.graph.output]
    return dict(zip(names, run_plainly(component, {"x": x}), strict=True))


@pytest.mark.parametrize("rounds", [False, True])
def test_memory_and_its_sum(rounds):
    component = model()
    finish_memory(component, rounds=rounds)
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 3)).astype(np.float32)
    outputs = run(component, x)
    expected = from_bfloat16_bits(to_bfloat16_bits(-x)) if rounds else -x
    np.testing.assert_array_equal(outputs["memory"], expected)
    np.testing.assert_allclose(outputs["memory_sum"], expected.sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_sum_tells_what_is_not_finite(value):
    component = model()
    finish_memory(component)
    x = np.ones((3, 2, 3, 3), np.float32)
    x[1, 1, 2, 0] = value
    assert np.isfinite(run(component, x)["memory_sum"]).tolist() == [True, False, True]


def test_other_components_stay_as_they_are():
    component = model("conditioned")
    before = component.SerializeToString()
    finish_memory(component)
    assert component.SerializeToString() == before
