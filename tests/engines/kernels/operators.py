"""Sessions of single operators, and what they compute in whole numbers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper

from tests.support.graphs import model_of

STEPS = {"query_scale": 0.02, "key_scale": 0.03, "value_scale": 0.05}


def session(
    library: Path,
    operator: str,
    inputs: dict[str, np.ndarray],
    constants: dict[str, np.ndarray] | None = None,
    output: type = np.float32,
    threads: int = 1,
    **attributes: int,
) -> onnxruntime.InferenceSession:
    """Return a session of one operator with these inputs, of any sizes."""
    kind = helper.np_dtype_to_tensor_dtype
    types = {name: kind(value.dtype) for name, value in inputs.items()}
    types["y"] = kind(np.dtype(output))
    constants = constants or {}
    node = helper.make_node(
        operator, [*inputs, *constants], ["y"], "op", domain="qsam2", **attributes
    )
    shapes = {name: [None] * value.ndim for name, value in inputs.items()}
    model = model_of([node], shapes, {"y": None}, constants, types=types, domain="qsam2")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.register_custom_ops_library(os.fspath(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def attend(
    library: Path,
    factors: tuple[np.ndarray, np.ndarray, np.ndarray],
    zero: int | None = None,
    threads: int = 1,
    steps: dict[str, float] | None = None,
    **attributes: int,
) -> np.ndarray:
    """Run QuantizedAttention with the steps above."""
    inputs: dict[str, Any] = dict(zip("qkv", factors, strict=True))
    inputs |= {n: np.asarray(s, np.float32) for n, s in (steps or STEPS).items()}
    if zero is not None:
        inputs["zero"] = np.asarray(zero, np.int8)
    made = session(library, "QuantizedAttention", inputs, threads=threads, **attributes)
    result: np.ndarray = made.run(None, inputs)[0]
    return result


def expected_attention(
    codes: tuple[np.ndarray, np.ndarray, np.ndarray],
    zero: int = 0,
    steps: dict[str, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the result, and for each query whether one of its weights is all but a tie."""
    q, k, v = (x.astype(np.int64) for x in codes)
    scale = {name: np.float32(value) for name, value in (steps or STEPS).items()}
    scores = (q @ np.swapaxes(k, -1, -2)).astype(np.float32)
    scores *= scale["query_scale"] * scale["key_scale"]
    shifted = (scores - scores.max(-1, keepdims=True)).astype(np.float64)
    exact = np.exp(shifted) / np.float64(np.float32(1 / 255))
    weights = np.rint(exact).astype(np.int64)
    tie = (np.abs(exact - np.floor(exact) - 0.5) < 3e-5).any(-1)
    sums = (weights @ (v - zero)).astype(np.float32)
    result = sums / weights.sum(-1, keepdims=True).astype(np.float32) * scale["value_scale"]
    return result, np.broadcast_to(tie, result.shape[:-1])


def random_codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)
