"""A quantized attention product in its canonical form, and what it computes in whole numbers."""

from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

WIDTH, VALUES = 16, 6
STEPS = {"q": np.float32(0.02), "k": np.float32(0.03), "v": np.float32(0.05)}


def attention_graph(
    queries: int,
    keys: int | str,
    heads: int = 0,
    *,
    transposed: bool = True,
    limit: float | None = None,
    zero_point: int = 0,
) -> onnx.ModelProto:
    """Return a model with inputs ``q``, ``k``, ``v`` and output ``y``.

    Args:
        queries: their number.
        keys: their number, or the name of a dynamic dimension.
        heads: how many; 0 for no axis of heads.
        transposed: the keys are transposed by a node, else they are given so.
        limit: clip the values to so much, as narrow grids do.
        zero_point: of the values.
    """
    lead = [2, heads] if heads else [2]
    shapes = {"q": [*lead, queries, WIDTH], "v": [*lead, keys, VALUES]}
    shapes["k"] = [*lead, keys, WIDTH] if transposed else [*lead, WIDTH, keys]
    constants: dict[str, Any] = {f"{n}_scale": step for n, step in STEPS.items()}
    constants |= {"zero": np.int8(0), "p_scale": np.float32(1 / 255), "p_zero": np.uint8(0)}
    constants |= {"v_zero": np.int8(zero_point)}
    constants |= {"last": np.array([-1]), "low": np.float32(-(limit or 0))}
    constants |= {"high": np.float32(limit or 0)}
    nodes = _nodes(len(lead) + 2, transposed, limit is not None)
    inputs = {n: shapes[n] for n in ("q", "k", "v")}
    return model_of(nodes, inputs, {"y": [*lead, queries, VALUES]}, constants)


def _nodes(rank: int, transposed: bool, clipped: bool) -> list[onnx.NodeProto]:
    make = helper.make_node
    perm = [*range(rank - 2), rank - 1, rank - 2]
    keys = make("Transpose", ["k"], ["k1"], "keys", perm=perm)
    limits = ["low", "high"] if clipped else []
    nodes = [
        # A node before each factor: shapes of inner tensors are inferred, not given.
        make("Identity", ["q"], ["q1"], "queries"),
        keys if transposed else make("Identity", ["k"], ["k1"], "keys"),
        make("Clip" if clipped else "Identity", ["v", *limits], ["v1"], "values"),
    ]
    for part in STEPS:
        grid = [f"{part}_scale", "v_zero" if part == "v" else "zero"]
        nodes.append(make("QuantizeLinear", [f"{part}1", *grid], [f"{part}2"], f"{part}_codes"))
        nodes.append(make("DequantizeLinear", [f"{part}2", *grid], [f"{part}3"], f"{part}_on_grid"))
    grid = ["p_scale", "p_zero"]
    return [
        *nodes,
        make("MatMul", ["q3", "k3"], ["s"], "scores"),
        make("ReduceMax", ["s"], ["m"], "largest", axes=[-1], keepdims=1),
        make("Sub", ["s", "m"], ["d"], "shifted"),
        make("Exp", ["d"], ["e"], "exp"),
        make("QuantizeLinear", ["e", *grid], ["p"], "p_codes"),
        make("DequantizeLinear", ["p", *grid], ["p1"], "weights"),
        make("DequantizeLinear", ["p", *grid], ["p2"], "summed"),
        make("ReduceSum", ["p2", "last"], ["t"], "total", keepdims=1),
        make("MatMul", ["p1", "v3"], ["c"], "context"),
        make("Div", ["c", "t"], ["y"], "result"),
    ]


def random_factors(queries: int, keys: int, heads: int = 0) -> dict[str, np.ndarray]:
    """Return queries, keys as rows, and values."""
    rng = np.random.default_rng(queries + keys)
    lead = (2, heads) if heads else (2,)
    shapes = {"q": (queries, WIDTH), "k": (keys, WIDTH), "v": (keys, VALUES)}
    return {
        name: rng.standard_normal((*lead, *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def expected(
    factors: dict[str, np.ndarray], limit: float = np.inf, zero_point: int = 0
) -> np.ndarray:
    """Return the result in float64 from sums of whole numbers."""
    clipped = factors | {"v": np.clip(factors["v"], -limit, limit)}
    zeros = {"q": 0, "k": 0, "v": zero_point}
    codes = {
        n: np.clip(np.rint(x / STEPS[n]), -128 - zeros[n], 127 - zeros[n])
        for n, x in clipped.items()
    }
    q, k, v = (codes[n].astype(np.int64) for n in ("q", "k", "v"))
    scores = (q @ np.swapaxes(k, -1, -2)) * (float(STEPS["q"]) * float(STEPS["k"]))
    weights = np.rint(255 * np.exp(scores - scores.max(-1, keepdims=True))).astype(np.int64)
    total = weights.sum(-1, keepdims=True)
    return (weights @ v) * float(STEPS["v"]) / total


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Run a model in ONNX Runtime."""
    return run_plainly(model, feeds)[0]


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Check equality up to weights in the middle of two codes, which may fall to either side."""
    apart = np.abs(found - wanted)
    assert np.ptp(wanted) > 1
    assert (apart > 1e-5 * np.ptp(wanted)).any(-1).mean() <= 0.01
    assert apart.max() <= 5e-3 * np.ptp(wanted)
