"""Rotary embeddings in another form: the same numbers, one operator in OpenVINO."""

import numpy as np
import onnx
import pytest
from onnx import helper

from qsam2_deploy.lowering.rotate_halves import rotate_halves
from tests.support.graphs import compiled, kernels_of, model_of
from tests.support.plain_engine import run_plainly

TOKENS, HALF = 12, 8


def rotation(lead: list[int | str], *, swapped: bool = False) -> onnx.ModelProto:
    """A rotary embedding of ``x [*lead, tokens, 2 half]`` as the export writes it."""
    make = helper.make_node
    angles = np.random.default_rng(0).uniform(-3, 3, (TOKENS, HALF)).astype(np.float32)
    constants = {"c": np.cos(angles), "s": np.sin(angles), "halves": np.array([HALF, HALF])}
    # The shapes of the tables are inferred from what makes them, as in the export.
    cos, sin = "c.made", "s.made"
    last = cos if not swapped else sin
    nodes = [
        *(make("Identity", [name], [f"{name}.made"], f"make_{name}") for name in ("c", "s")),
        make("Identity", ["x"], ["x1"], "source"),
        make("Split", ["x1", "halves"], ["a", "b"], "split", axis=-1),
        make("Mul", ["a", cos], ["ac"], "ac"),
        make("Mul", ["b", sin], ["bs"], "bs"),
        make("Sub", ["ac", "bs"], ["first"], "first"),
        make("Mul", ["a", sin], ["as"], "as"),
        make("Mul", ["b", last], ["bc"], "bc"),
        make("Add", ["as", "bc"], ["second"], "second"),
        make("Concat", ["first", "second"], ["y1"], "join", axis=-1),
        make("Relu", ["y1"], ["y"], "last"),
    ]
    shape = [*lead, TOKENS, 2 * HALF]
    return model_of(nodes, {"x": shape}, {"y": shape}, constants)


def feed(lead: list[int | str]) -> dict[str, np.ndarray]:
    shape = [size if isinstance(size, int) else 2 for size in lead]
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((*shape, TOKENS, 2 * HALF)).astype(np.float32)}


@pytest.mark.parametrize("lead", [[1], ["B"], ["B", 3], [2, 3]])
def test_same_numbers(lead):
    model, x = rotation(lead), feed(lead)
    (wanted,) = run_plainly(model, x)
    assert rotate_halves(model) == 1
    (found,) = run_plainly(model, x)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.ptp(wanted) > 1


@pytest.mark.parametrize("lead", [["B"], ["B", 3]])
def test_openvino_has_one_operator_for_it(lead):
    model, x = rotation(lead), feed(lead)
    (wanted,) = run_plainly(model, x)
    rotate_halves(model)
    made = compiled(model)
    np.testing.assert_allclose(made(x)["y"], wanted, atol=1e-6)
    kinds = [kind for kind, _ in kernels_of(made)]
    assert kinds.count("RoPE") == 1
    assert not {"Split", "Concatenation"} & set(kinds)


def test_what_is_no_rotation_is_left_alone():
    assert rotate_halves(rotation([2], swapped=True)) == 0
    assert rotate_halves(rotation([2, 2, 2])) == 0
