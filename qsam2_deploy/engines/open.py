"""Opening a model in an engine that is named, or chosen."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from .options import BackendOptions
from .protocol import Backend
from .registry import AUTO, engine_named, installed_engines


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
        backend: of :func:`~.registry.backend_names`: ``ort`` (ONNX Runtime on the CPU),
            ``openvino`` (OpenVINO on the CPU) or ``ort-cuda`` (ONNX Runtime on an NVIDIA GPU, in
            half precision) for a ``model.onnx``, ``tensorrt`` or ``tensorrt-rtx`` for a
            ``model.engine`` that it built, or ``auto``. For an engine ``auto`` is what built it;
            for a ``model.onnx`` it is the faster installed engine for the CPU. If both are
            installed, they are timed when the model is loaded for the first time, which takes
            seconds; the choice is remembered in ``cache``, or else in the user's cache folder.
        threads: threads of an engine on the CPU; default: one for each physical core.
        cache: folder for the lowered model, so that it opens faster the next time; by default
            only the choice of the engine is kept. What cannot be read from it or written to it is
            made anew.
        precision: ``exact``, or ``fast``, which lets OpenVINO compute in bfloat16 what is not
            quantized, if the processor has it; if not, a warning says that it computes exactly.

    Raises:
        InputError: no such backend or precision.
        ModelFileError: the file cannot be used.
        MissingDependencyError: the engine is not installed.
    """
    named = None if backend == AUTO else engine_named(backend)
    options = BackendOptions(threads, cache, precision)
    if not isinstance(model, (str, os.PathLike)):
        return model
    from .tensorrt.engine_file import is_engine

    if is_engine(model) or (named is not None and named.runs_built):
        return _open_built(model, backend)
    if named is not None:
        return named.open(model, options)
    found = installed_engines()
    if len(found) < 2:
        return engine_named(found[0] if found else "ort").open(model, options)
    from .choose import AutoBackend

    return AutoBackend(
        model, found, options, lambda chosen, name: engine_named(name).open(model, chosen)
    )


def _open_built(path: str | os.PathLike[str], backend: str) -> Backend:
    from .tensorrt.backend import TensorRtBackend
    from .tensorrt.engine_file import is_engine

    if not is_engine(path) and Path(path).suffix != ".engine":
        raise InputError(
            f"the backend {backend} runs a model.engine, but got {path}; build one with: "
            f"qsam2-build-engine {path} model.engine"
        )
    opened = TensorRtBackend(path)
    if backend not in (AUTO, opened.builder):
        raise InputError(
            f"{path} was built by {opened.builder} and runs with the backend {opened.builder}, "
            f"but got {backend}"
        )
    return opened
