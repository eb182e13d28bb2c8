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
from .lowered_cache import LoweredCache, lowered_model
from .lowering import lower_for_openvino
from .sessions import ComponentSessions


class OpenVinoBackend:
    """Runs a bundle with one compiled model of OpenVINO per component."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Read and check ``model``; it is compiled on entering the context.

        Args:
            model: path of a ``model.onnx``.
            threads: threads within an operator; default: OpenVINO's own choice.
            cache: folder for the lowered graphs; see :mod:`.lowered_cache`. Default: none.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``openvino`` or ``onnx`` is not installed.
        """
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "running a model") from error
        self._threads = threads
        self._requests = ComponentSessions(model, self._request)
        self._cache = None if cache is None else _cache(cache, self._requests.digest)

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

    def _request(self, component: Any) -> Any:
        lowered = lowered_model(component, lower_for_openvino, self._cache)
        return request_from_lowered(lowered, component.graph.name, self._threads)

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


def _cache(folder: str | os.PathLike[str], digest: str) -> LoweredCache:
    import onnx
    import openvino

    return LoweredCache(
        folder,
        digest=digest,
        engine="openvino",
        engine_version=openvino.__version__,
        options=f"onnx={onnx.__version__}",
    )


def request_from_onnx(component: Any, threads: int | None = None) -> Any:
    """Lower one component for OpenVINO, compile it, and return its ``InferRequest``.

    Args:
        component: an ``onnx.ModelProto`` with one component; it is changed.
        threads: threads within an operator.

    Raises:
        EngineError: OpenVINO refuses the model.
    """
    lower_for_openvino(component)
    return request_from_lowered(component.SerializeToString(), component.graph.name, threads)


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
        core = openvino.Core()
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
