"""Times of components and operators on OpenVINO, by its own performance counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.engines.openvino.requests import engine_settings, shared_core
from qsam2_deploy.lowering import lower_for_openvino
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.tensors import fix_dimensions

_SHOWN = 10


def openvino_component(
    path: Path,
    name: str,
    threads: int,
    inputs: Mapping[str, npt.NDArray[Any]],
    milliseconds: Callable[[Callable[[], Any]], float],
) -> dict[str, Any]:
    """Time one component compiled for the sizes of ``inputs``, and one more run by operator.

    Args:
        path: a ``model.onnx``.
        name: of the component.
        threads: of the engine.
        inputs: of the component.
        milliseconds: times a call.
    """
    component = read_bundle(path).components[name]
    lower_for_openvino(component)
    fix_dimensions(component)
    model = component.SerializeToString()
    request = _request(model, threads)
    total = milliseconds(lambda: request.infer(inputs))
    profiled = _request(model, threads, profile=True)
    profiled.infer(inputs)
    profiled.infer(inputs)
    return {"ms": round(total, 1), "operators_ms": _by_operator(profiled)}


def openvino_integer_rate(rows: int, depth: int, columns: int, threads: int) -> float:
    """Return giga operations a second of a product of unsigned codes with signed constants."""
    rng = np.random.default_rng(0)
    constants = {
        "step": np.float32(0.01),
        "zero": np.uint8(0),
        "weight": rng.integers(-127, 128, (depth, columns), dtype=np.int8),
        "steps": np.full(columns, 0.01, np.float32),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "step", "zero"], ["codes"]),
        make("DequantizeLinear", ["codes", "step", "zero"], ["values"]),
        make("DequantizeLinear", ["weight", "steps"], ["matrix"], axis=1),
        make("MatMul", ["values", "matrix"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
        [numpy_helper.from_array(np.asarray(v), key) for key, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    request = _request(model.SerializeToString(), threads, profile=True)
    x = rng.random((rows, depth), np.float32)
    times = []
    for _ in range(5):
        request.infer({"x": x})
        products = {k: v for k, v in _times(request).items() if k.startswith(("Fully", "MatMul"))}
        times.append(sum(products.values()))
    return 2 * rows * depth * columns / 1e6 / min(times)


def _request(model: bytes, threads: int, *, profile: bool = False) -> Any:
    core = shared_core()
    settings = engine_settings(threads, profile=profile)
    return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()


def _by_operator(request: Any) -> dict[str, float]:
    return {name: round(value, 1) for name, value in _times(request).most_common(_SHOWN)}


def _times(request: Any) -> Counter[str]:
    """Return milliseconds of the last run by operator and kernel; integer kernels end with i8."""
    total: Counter[str] = Counter()
    for entry in request.get_profiling_info():
        kind = "FullyConnected" if "FullyConnected" in entry.node_type else entry.node_type
        total[f"{kind} {entry.exec_type}"] += entry.real_time.total_seconds() * 1e3
    return total
