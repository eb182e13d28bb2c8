"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependencyError
from .backend import Arrays
from .lowered_cache import LoweredCache
from .lowering import lower_for_openvino
from .sessions import SessionBackend


class OpenVinoBackend(SessionBackend):
    """Runs a bundle with one compiled model of OpenVINO per component."""

    @staticmethod
    def _require_engine() -> None:
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "running a model") from error

    def _lower(self, component: Any) -> None:
        lower_for_openvino(component)

    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        import onnx
        import openvino

        return LoweredCache(
            folder,
            digest=digest,
            engine="openvino",
            engine_version=openvino.__version__,
            options=f"onnx={onnx.__version__}",
        )

    def _open(self, lowered: bytes, name: str) -> Any:
        return request_from_lowered(lowered, name, self._threads)

    def _run(self, session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        names = [tensor.name for tensor in self.spec.component(component).outputs]
        feeds = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
        try:
            results = session.infer(feeds)
            return {name: results[name] for name in names}
        except Exception as error:  # what OpenVINO raises depends on what goes wrong
            raise EngineError(f"OpenVINO failed in {component}: {_first_line(error)}") from error


@functools.cache
def shared_core() -> Any:
    """Return the ``openvino.Core`` of this process, which is never given back.

    The first model that a core compiles gives its thread a stack for signal handlers, which goes
    when the core does. Of several cores that go in the order in which they came, one puts back the
    stack of another that is gone already, and the next signal, such as Ctrl-C, ends the process
    (OpenVINO 2026.4, the class ``SigAltStackSetup`` of its CPU plugin).
    """
    import openvino

    return openvino.Core()


def request_from_lowered(model: bytes, name: str, threads: int | None = None) -> Any:
    """Compile a serialised component that was lowered before, and return its ``InferRequest``.

    Args:
        model: the component.
        name: what messages call it.
        threads: threads within an operator.

    Raises:
        EngineError: OpenVINO refuses the model.
    """
    import openvino

    # In bfloat16, its choice on some processors, values would leave the trained grids.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = shared_core()
        return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    except Exception as error:  # what OpenVINO raises depends on what goes wrong
        raise EngineError(
            f"OpenVINO {openvino.__version__} cannot load {name}: "
            f"{_first_line(error)}; upgrade it with: pip install -U openvino"
        ) from error


def _first_line(error: Exception) -> str:
    """Return what an error says; the lines that follow name source files of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]
