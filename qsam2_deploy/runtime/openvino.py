"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependencyError
from ..spec import ModelSpec
from .backend import Arrays
from .lowering import lower_for_openvino
from .sessions import ComponentSessions


class OpenVinoBackend:
    """Runs a bundle with one compiled model of OpenVINO per component."""

    def __init__(self, model: str | os.PathLike[str], threads: int | None = None) -> None:
        """Read and check ``model``; it is compiled on entering the context.

        Args:
            model: path of a ``model.onnx``.
            threads: threads within an operator; default: OpenVINO's own choice.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``openvino`` or ``onnx`` is not installed.
        """
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "running a model") from error
        self._requests = ComponentSessions(
            model, lambda component: request_from_onnx(component, threads)
        )

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._requests.spec

    def __enter__(self) -> OpenVinoBackend:
        """Compile the components.

        Raises:
            EngineError: OpenVINO refuses the model.
        """
        self._requests.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the compiled components."""
        self._requests.__exit__(kind, error, trace)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.runtime.backend.Backend`."""
        request = self._requests[component]
        names = [tensor.name for tensor in self.spec.component(component).outputs]
        feeds = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
        try:
            results = request.infer(feeds)
            return {name: results[name] for name in names}
        except Exception as error:  # what OpenVINO raises depends on what goes wrong
            raise EngineError(f"OpenVINO failed in {component}: {_first_line(error)}") from error


def request_from_onnx(component: Any, threads: int | None = None) -> Any:
    """Lower one component for OpenVINO, compile it, and return its ``InferRequest``.

    Args:
        component: an ``onnx.ModelProto`` with one component; it is changed.
        threads: threads within an operator.

    Raises:
        EngineError: OpenVINO refuses the model.
    """
    import openvino

    # In bfloat16, its choice on some processors, values would leave the trained grids.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    lower_for_openvino(component)
    try:
        core = openvino.Core()
        model = core.read_model(component.SerializeToString())
        return core.compile_model(model, "CPU", settings).create_infer_request()
    except Exception as error:  # what OpenVINO raises depends on what goes wrong
        raise EngineError(
            f"OpenVINO {openvino.__version__} cannot load {component.graph.name}: "
            f"{_first_line(error)}; upgrade it with: pip install -U openvino"
        ) from error


def _first_line(error: Exception) -> str:
    """Return what an error says; the lines that follow name source files of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]
