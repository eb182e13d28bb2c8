"""Rotary embeddings in another form: the same numbers, one operator in OpenVINO."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.engines.openvino.requests import engine_settings, shared_core
from qsam2_deploy.lowering.rotate_halves import rotate_halves

TOKENS, HALF = 12, 8


def rotation(lead: list[int | str], *, swapped: bool = False) -> onnx.ModelProto:
    """A rotary embedding of ``x [*lead, tokens, 2 half]`` as the export writes it."""
    info, make = helper.make_tensor_value_info, helper.make_node
    angles = np.random.default_rng(0).uniform(-3, 3, (TOKENS, HALF)).astype(np.float32)
    constants = {"c": np.cos(angles), "s": np.sin(angles), "halves": np.array([HALF, HALF])}
    last = "c" if not swapped else "s"
    shape = [*lead, TOKENS, 2 * HALF]
    graph = helper.make_graph(
        [
            make("Identity", ["x"], ["x1"], "source"),
            make("Split", ["x1", "halves"], ["a", "b"], "split", axis=-1),
            make("Mul", ["a", "c"], ["ac"], "ac"),
            make("Mul", ["b", "s"], ["bs"], "bs"),
            make("Sub", ["ac", "bs"], ["first"], "first"),
            make("Mul", ["a", "s"], ["as"], "as"),
            make("Mul", ["b", last], ["bc"], "bc"),
            make("Add", ["as", "bc"], ["second"], "second"),
            make("Concat", ["first", "second"], ["y1"], "join", axis=-1),
            make("Relu", ["y1"], ["y"], "last"),
        ],
        "g",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    # The shapes of the tables are inferred from what makes them, as in the export.
    tables = [make("Identity", [name], [f"{name}.made"], f"make_{name}") for name in ("c", "s")]
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in ("c", "s"):
                node.input[i] = f"{name}.made"
    nodes = [*tables, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feed(lead: list[int | str]) -> dict[str, np.ndarray]:
    shape = [size if isinstance(size, int) else 2 for size in lead]
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((*shape, TOKENS, 2 * HALF)).astype(np.float32)}


@pytest.mark.parametrize("lead", [[1], ["B"], ["B", 3], [2, 3]])
def test_same_numbers(lead: list[int | str]) -> None:
    model, x = rotation(lead), feed(lead)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, x)[0]
    assert rotate_halves(model) == 1
    onnx.checker.check_model(model, full_check=True)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, x)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.ptp(wanted) > 1


@pytest.mark.parametrize("lead", [["B"], ["B", 3]])
def test_openvino_has_one_operator_for_it(lead: list[int | str]) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    model, x = rotation(lead), feed(lead)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, x)[0]
    rotate_halves(model)
    core = shared_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", engine_settings(1)
    )
    np.testing.assert_allclose(compiled(x)["y"], wanted, atol=1e-6)
    operators = compiled.get_runtime_model().get_ops()
    kinds = [op.get_rt_info()["layerType"].astype(str) for op in operators]
    assert kinds.count("RoPE") == 1
    assert not {"Split", "Concatenation"} & set(kinds)


def test_what_is_no_rotation_is_left_alone() -> None:
    assert rotate_halves(rotation([2], swapped=True)) == 0
    assert rotate_halves(rotation([2, 2, 2])) == 0
