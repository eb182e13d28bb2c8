"""What an inference engine must do for us: run one of the four components."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy.typing as npt

from ..errors import InputError
from ..spec import ModelSpec

Arrays = dict[str, npt.NDArray[Any]]

BACKENDS = ("auto", "openvino", "ort")
"""Names that :func:`open_backend` takes."""

ENGINES = {"auto": "onnxruntime", "openvino": "openvino", "ort": "onnxruntime"}
"""The package of each."""


class Backend(Protocol):
    """An engine with a model. A Protocol, so that a backend needs no base class of ours.

    Nothing is loaded until the context is entered, and all is released when it is left.
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


def runs_concurrently(backend: Backend) -> bool:
    """Return whether two different components may run at the same time, in two threads.

    A backend says so by an attribute ``concurrent``. It is no member of the protocol: without it
    the answer is no, which is right for every engine.
    """
    return bool(getattr(backend, "concurrent", False))


def open_backend(
    model: str | os.PathLike[str] | Backend,
    backend: str = "auto",
    threads: int | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> Backend:
    """Choose the engine for ``model``; enter the result to load it.

    Args:
        model: a ``model.onnx`` made by ``qsam2-export``; a backend is returned as it is.
        backend: ``ort`` (ONNX Runtime on the CPU), ``openvino`` (OpenVINO on the CPU), or
            ``auto``, which is ``ort``.
        threads: threads of the engine; default: one for each physical core.
        cache: folder to keep the lowered graphs in, so that the model opens faster the next time;
            default: nothing is kept. What cannot be read from it or written to it is made anew.

    Raises:
        InputError: no such backend.
        ModelFileError: the file cannot be used.
        MissingDependencyError: the engine is not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, but got {backend!r}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, but got {threads}")
    if not isinstance(model, (str, os.PathLike)):
        return model
    if backend == "openvino":
        from .openvino import OpenVinoBackend

        return OpenVinoBackend(model, threads=threads, cache=cache)
    from .ort import OrtBackend

    return OrtBackend(model, threads=threads, cache=cache)
