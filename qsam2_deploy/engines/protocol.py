"""What an inference engine must do for us: run one of the four components."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from ..errors import InputError
from ..spec import ModelSpec
from .options import BackendOptions

Arrays = dict[str, npt.NDArray[Any]]

_Wrapped = TypeVar("_Wrapped", bound="WrappedBackend")

BACKENDS = ("auto", "openvino", "ort", "ort-cuda", "tensorrt", "tensorrt-rtx")
"""Names that :func:`open_backend` takes."""

ENGINES = {
    "openvino": "openvino",
    "ort": "onnxruntime",
    "ort-cuda": "onnxruntime-gpu",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx_cu13_bindings",
}
"""The package of each engine."""

CPU_BACKENDS = ("ort", "openvino")
"""Those among which ``auto`` chooses for a ``model.onnx``."""

GPU_BACKENDS = ("tensorrt", "tensorrt-rtx")
"""Those that run a ``model.engine``."""


@dataclass(frozen=True)
class DeviceImage:
    """A frame on the backend's device that is the model's input already.

    Attributes:
        tensor: what the backend takes as the input ``image``.
        shape: of the frame, ``(S, S, 3)``.
    """

    tensor: Any
    shape: tuple[int, int, int]

    @property
    def ndim(self) -> int:
        """Number of axes of the frame."""
        return len(self.shape)


class Backend(Protocol):
    """An engine with a model. A Protocol, so that a backend needs no base class of ours.

    Nothing is loaded until the context is entered, and all is released when it is left.

    A backend with memory of its own may return opaque tensors where only components read an
    output: ``features``, ``high_res_0``, ``high_res_1``, ``conditioned`` and ``memory``. They have
    a ``shape``, and numpy converts them. Such a backend can have two more members:

    - ``memories``, a :class:`~qsam2_deploy.tracking.memory.MemoryStore` that keeps memory features
      on the device;
    - ``take_frame(frame)``, which takes a frame with ``__cuda_array_interface__`` and returns a
      :class:`DeviceImage`, or a uint8 array on the host.
    """

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model; known before the context is entered."""

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component of :data:`qsam2_deploy.spec.COMPONENTS`.

        Args:
            component: its name.
            inputs: arrays of the names, dtypes and shapes that ``spec.component`` lists.

        Returns:
            The component's outputs by name.
        """

    def __enter__(self) -> Backend:
        """Load the model into the engine."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the engine."""


class WrappedBackend:
    """A backend that passes everything on to another one; a base for those that look on."""

    def __init__(self, backend: Backend) -> None:
        """Wrap ``backend``; entering this one enters it."""
        self._backend = backend

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._backend.spec

    def __getattr__(self, name: str) -> Any:
        """Return what else the backend says of itself."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._backend, name)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`Backend`."""
        return self._backend.run(component, inputs)

    def __enter__(self: _Wrapped) -> _Wrapped:
        """Load the model into the engine."""
        self._backend.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the engine."""
        self._backend.__exit__(kind, error, trace)


def runs_concurrently(backend: Backend) -> bool:
    """Return whether two different components may run at the same time, in two threads.

    A backend says so by an attribute ``concurrent``. It is no member of the protocol: without it
    the answer is no, which is right for every engine.
    """
    return bool(getattr(backend, "concurrent", False))


def engine_of(backend: Backend) -> str:
    """Return the name of the engine that a backend runs on, and how it computes.

    It is for people to read: ``openvino, exact``. A backend of one's own may say so by attributes
    ``name`` and ``precision``.
    """
    parts = (getattr(backend, "name", type(backend).__name__), getattr(backend, "precision", ""))
    return ", ".join(part for part in parts if part)


def open_backend(
    model: str | os.PathLike[str] | Backend,
    backend: str = "auto",
    threads: int | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    precision: str = "exact",
) -> Backend:
    """Choose the engine for ``model``; enter the result to load it.

    Args:
        model: a ``model.onnx`` made by ``qsam2-export``, or a ``model.engine`` made by
            ``qsam2-build-engine``; a backend is returned as it is.
        backend: ``ort`` (ONNX Runtime on the CPU), ``openvino`` (OpenVINO on the CPU) or
            ``ort-cuda`` (ONNX Runtime on an NVIDIA GPU, in half precision) for a ``model.onnx``,
            ``tensorrt`` or ``tensorrt-rtx`` for a ``model.engine`` that it built, or ``auto``. For
            an engine that is what built it; for a ``model.onnx`` the faster one of those for the
            CPU that are installed. Where both are, the model is tried out when it is loaded for
            the first time, which takes seconds; the choice is remembered in ``cache``, or else in
            the user's own folder for caches.
        threads: threads of an engine on the CPU; default: one for each physical core.
        cache: folder to keep in what opening the model makes, so that it opens faster the next
            time; default: nothing is kept but the choice of the engine. What cannot be read from
            it or written to it is made anew.
        precision: ``exact``, or ``fast``, which lets OpenVINO compute in bfloat16 what is not
            quantized, if the processor has it; if not, a warning says that it computes exactly.

    Raises:
        InputError: no such backend or precision.
        ModelFileError: the file cannot be used.
        MissingDependencyError: the engine is not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, but got {backend!r}")
    options = BackendOptions(threads, cache, precision)
    if not isinstance(model, (str, os.PathLike)):
        return model
    from .tensorrt.engine_file import is_engine

    if backend in GPU_BACKENDS or is_engine(model):
        return _open_tensorrt(model, backend)
    if backend == "ort-cuda":
        from .onnxruntime.cuda import OrtCudaBackend

        return OrtCudaBackend(model, cache=cache)
    if backend != "auto":
        return _open_engine(model, options, backend)
    from .choose import AutoBackend, installed_engines

    engines = installed_engines()
    if len(engines) < 2:
        return _open_engine(model, options, engines[0] if engines else "ort")
    return AutoBackend(model, engines, options, partial(_open_engine, model))


def _open_engine(model: str | os.PathLike[str], options: BackendOptions, engine: str) -> Backend:
    if engine == "openvino":
        from .openvino.backend import OpenVinoBackend

        return OpenVinoBackend(model, **vars(options))
    from .onnxruntime.cpu import OrtBackend

    return OrtBackend(model, **vars(options))


def _open_tensorrt(path: str | os.PathLike[str], backend: str) -> Backend:
    from .tensorrt.backend import TensorRtBackend
    from .tensorrt.engine_file import is_engine

    if not is_engine(path) and Path(path).suffix != ".engine":
        raise InputError(
            f"the backend {backend} runs a model.engine, but got {path}; build one with: "
            f"qsam2-build-engine {path} model.engine"
        )
    opened = TensorRtBackend(path)
    if backend not in ("auto", opened.builder):
        raise InputError(
            f"{path} was built by {opened.builder} and runs with the backend {opened.builder}, "
            f"but got {backend}"
        )
    return opened
