"""Whether an engine's integer products are exact on this processor, found out by trying.

Processors without VNNI (Core before the 10th generation, AMD Zen 1 to 3, servers before Cascade
Lake) multiply unsigned by signed bytes in pairs whose sum is cut off at 16 bits, and engines use
that silently: pytorch/pytorch#103646, microsoft/onnxruntime#14642, openvinotoolkit/openvino#25342.
No list of processors is asked, because what an engine does with one changes with its version: a
small component of one linear layer, one convolution and two attention products, all of whose codes
are at the ends of their grids, is lowered and run as the model will be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .protocol import Arrays

if TYPE_CHECKING:
    import onnx

RunProbe = Callable[["onnx.ModelProto"], Arrays]
"""Lowers the component for an engine, runs it on :func:`probe_inputs`, and returns its outputs."""

PRODUCTS = ("linear", "conv", "attention", "heads")
"""Outputs of the component: a layer, a convolution, attention without and with an axis of heads."""

_STEP = np.float32(0.01)
_DEPTH, _OUTPUTS, _ROWS = 64, 16, 24
_CHANNELS, _SIDE = 8, 8
_SCORE_STEP = 0.35
_QUERY_STEP = np.float32(_SCORE_STEP / (127 * _DEPTH * float(_STEP)))
_TOLERANCE = 1e-5
"""Share of the largest result that float rounding of exact sums stays below."""


def inexact_products(run: RunProbe, *, narrow: bool = False) -> list[str]:
    """Return which products an engine computes wrong, of :data:`PRODUCTS`.

    Args:
        run: the engine.
        narrow: ask with a quantizer of the narrow form, as below 8 bits: a Clip comes first.
    """
    found = run(probe_component(narrow=narrow))
    wrong = []
    for name, expected in _expected().items():
        apart = np.abs(found[name] - expected).max()
        if not apart <= _TOLERANCE * np.abs(expected).max():  # NaN is wrong, too
            wrong.append(name)
    return wrong


def check_exact(engine: str, run: RunProbe) -> None:
    """Check that an engine computes the integers that were trained.

    Args:
        engine: its name and version, for the message.
        run: the engine, with the model lowered as it will be.

    Raises:
        EngineError: it does not.
    """
    wrong = inexact_products(run)
    if wrong:
        raise EngineError(
            f"{engine} does not multiply integers exactly on this processor ({', '.join(wrong)}), "
            "so its masks would be others than those that were trained; choose another engine"
        )


def probe_inputs() -> dict[str, npt.NDArray[np.float32]]:
    """Return the inputs of :func:`probe_component`, float32 by name.

    ``x [24, 64]``, ``image [1, 8, 8, 8]``; ``q``, ``k`` and ``v``, each ``[1, 24, 64]``, and with
    heads ``[1, 2, 24, 64]``.
    """
    return {name: codes * _STEP for name, codes in _codes().items()}


@functools.cache
def _codes() -> dict[str, npt.NDArray[np.float32]]:
    """Return whole numbers, most of them near 127, where sums of pairs are largest.

    Half of the layer's inputs are any numbers up to 101, which another grid than theirs would move.

    The scores of a query are 0, 1, .. 7 times :data:`_SCORE_STEP` below the largest one, so that no
    weight lies between two codes. Half of the values have any sign, which shows wrong weights.
    """
    rng = np.random.default_rng(0)

    def near_the_end(*shape: int) -> npt.NDArray[Any]:
        return rng.integers(120, 128, shape)

    def values(*lead: int) -> npt.NDArray[Any]:
        codes = near_the_end(*lead, _ROWS, _DEPTH)
        codes[..., ::2] *= rng.choice([-1, 1], codes[..., ::2].shape)
        return codes

    def keys(*lead: int) -> npt.NDArray[Any]:
        codes = near_the_end(*lead, _ROWS, 1)
        codes[..., 0, :] = 127
        return codes.repeat(_DEPTH, -1)

    x = near_the_end(_ROWS, _DEPTH)
    x[::2] = rng.integers(-101, 102, x[::2].shape)
    codes = {"x": x, "image": near_the_end(1, _CHANNELS, _SIDE, _SIDE)}
    for suffix, lead in (("", (1,)), ("_heads", (1, 2))):
        codes[f"q{suffix}"] = np.full((*lead, _ROWS, _DEPTH), 127)
        codes[f"k{suffix}"], codes[f"v{suffix}"] = keys(*lead), values(*lead)
    return {name: array.astype(np.float32) for name, array in codes.items()}


@functools.cache
def _weights() -> dict[str, npt.NDArray[np.int8]]:
    rng = np.random.default_rng(1)
    shapes = {"linear": (_DEPTH, _OUTPUTS), "conv": (_OUTPUTS, _CHANNELS, 3, 3)}
    return {n: rng.integers(120, 128, shape).astype(np.int8) for n, shape in shapes.items()}


@functools.cache
def _expected() -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of the component in float64, from sums of whole numbers."""
    codes = {name: array.astype(np.int64) for name, array in _codes().items()}
    weights = {name: array.astype(np.int64) for name, array in _weights().items()}
    step = float(_STEP)
    found: dict[str, npt.NDArray[Any]] = {}
    found["linear"] = (codes["x"] @ weights["linear"]) * step**2
    windows = np.lib.stride_tricks.sliding_window_view(codes["image"][0], (3, 3), axis=(1, 2))
    sums = np.einsum("chwij,ocij->ohw", windows, weights["conv"])
    found["conv"] = sums[None] * step**2
    for name, suffix in (("attention", ""), ("heads", "_heads")):
        q, k, v = (codes[part + suffix] for part in "qkv")
        scores = q @ np.swapaxes(k, -1, -2) * float(_QUERY_STEP) * step
        unit = np.rint(255 * np.exp(scores - scores.max(-1, keepdims=True))).astype(np.int64)
        found[name] = (unit @ v) * step / unit.sum(-1, keepdims=True)
    return found


@functools.cache
def _serialized(narrow: bool) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, Any] = {
        "step": _STEP,
        "query_step": _QUERY_STEP,
        "query_factor": _QUERY_STEP / _STEP,
        "zero": np.int8(0),
        "weight_step": np.float32(1 / 255),
        "weight_zero": np.uint8(0),
        "last": np.array([-1]),
        "channel_steps": np.full(_OUTPUTS, _STEP),
        "bias": np.zeros(_OUTPUTS, np.float32),
    }
    constants |= {f"{name}/codes": array for name, array in _weights().items()}
    if narrow:
        constants |= {"low": np.float32(-127 * _STEP), "high": np.float32(127 * _STEP)}
    nodes = [*_layer("linear", "MatMul", "x", 1), *_layer("conv", "Conv", "image", 0)]
    nodes += _attention("attention", "", 3, narrow) + _attention("heads", "_heads", 4, narrow)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "probe",
        [info(name, TensorProto.FLOAT, array.shape) for name, array in _codes().items()],
        [info(name, TensorProto.FLOAT, array.shape) for name, array in _expected().items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def probe_component(*, narrow: bool = False) -> onnx.ModelProto:
    """Return the component in the canonical form of ``docs/formats.md``; it may be changed."""
    import onnx

    return onnx.load_model_from_string(_serialized(narrow))


def _pair(source: str, name: str, grid: list[str]) -> list[onnx.NodeProto]:
    """Return the nodes that bring ``source`` onto a grid; the result is ``name``."""
    from onnx import helper

    quantize = helper.make_node("QuantizeLinear", [source, *grid], [f"{name}/q"], f"{name}/q")
    return [quantize, helper.make_node("DequantizeLinear", [f"{name}/q", *grid], [name], name)]


def _layer(name: str, operator: str, source: str, axis: int) -> list[onnx.NodeProto]:
    from onnx import helper

    weight, on_grid = f"{name}/weight", f"{name}/input"
    codes = [f"{name}/codes", "channel_steps"]
    nodes = _pair(source, on_grid, ["step", "zero"])
    nodes.append(helper.make_node("DequantizeLinear", codes, [weight], weight, axis=axis))
    if operator == "Conv":
        inputs = [on_grid, weight, "bias"]
        return [*nodes, helper.make_node(operator, inputs, [name], f"{name}/Conv")]
    return [
        *nodes,
        helper.make_node(operator, [on_grid, weight], [f"{name}/product"], f"{name}/product"),
        helper.make_node("Add", [f"{name}/product", "bias"], [name], name),
    ]


def _attention(name: str, suffix: str, rank: int, narrow: bool) -> list[onnx.NodeProto]:
    from onnx import helper

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], output, **attributes)

    # Passes append their own names to that of the attention, after a slash.
    scaled, columns, rows, queries, keys, values, scores, largest = (
        f"{part} of {name}"
        for part in ("scaled", "columns", "rows", "q", "k", "v", "scores", "largest")
    )
    shifted, exp, weights, summed, total, context = (
        f"{part} of {name}" for part in ("shifted", "exp", "weights", "summed", "total", "context")
    )
    perm = [*range(rank - 2), rank - 1, rank - 2]
    grid = ["weight_step", "weight_zero"]
    return [
        node("Mul", [f"q{suffix}", "query_factor"], scaled),
        node("Transpose", [f"k{suffix}"], columns, perm=perm),
        node("Clip", [f"v{suffix}", "low", "high"], rows)
        if narrow
        else node("Identity", [f"v{suffix}"], rows),
        *_pair(scaled, queries, ["query_step", "zero"]),
        *_pair(columns, keys, ["step", "zero"]),
        *_pair(rows, values, ["step", "zero"]),
        node("MatMul", [queries, keys], scores),
        node("ReduceMax", [scores], largest, axes=[-1], keepdims=1),
        node("Sub", [scores, largest], shifted),
        node("Exp", [shifted], exp),
        *_pair(exp, weights, grid),
        node("DequantizeLinear", [f"{weights}/q", *grid], summed),
        node("ReduceSum", [summed, "last"], total, keepdims=1),
        node("MatMul", [weights, values], context),
        node("Div", [context, total], name),
    ]
