"""The engines by name. A new one is a folder beside this file, and an entry in ``BUILT_IN``.

Other packages bring engines as entry points of the group ``qsam2_deploy.engines``: the name of the
entry point is that of the engine, and its object an :class:`Engine`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from dataclasses import dataclass

from .._common.contradictions import reason_of
from ..errors import InputError, Qsam2Error
from .options import BackendOptions
from .protocol import Backend

GROUP = "qsam2_deploy.engines"
AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """What is known of an engine before it is imported.

    Attributes:
        name: what users write.
        package: the name under which its package is installed.
        backend: ``module:Class`` of its :class:`~.protocol.Backend`, which is made of a file's path
            and of ``options`` by keyword.
        options: fields of :class:`~.options.BackendOptions` that it takes.
        runs_built: it runs a ``model.engine`` of ``qsam2-build-engine``, and no ``model.onnx``.
        chosen: whether ``auto`` may choose it for a ``model.onnx``.
    """

    name: str
    package: str
    backend: str
    options: tuple[str, ...] = ("threads", "cache", "precision")
    runs_built: bool = False
    chosen: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package can be imported, where that has the name of the module."""
        return importlib.util.find_spec(self.package) is not None

    def open(self, path: str | os.PathLike[str], options: BackendOptions) -> Backend:
        """Make its backend.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        module, _, name = self.backend.partition(":")
        make = getattr(importlib.import_module(module), name)
        told = {option: getattr(options, option) for option in self.options}
        backend: Backend = make(path, **told)
        return backend


_HERE = __package__

BUILT_IN = (
    Engine("ort", "onnxruntime", f"{_HERE}.onnxruntime.cpu:OrtBackend", chosen=True),
    Engine("openvino", "openvino", f"{_HERE}.openvino.backend:OpenVinoBackend", chosen=True),
    Engine(
        "ort-cuda",
        "onnxruntime-gpu",
        f"{_HERE}.onnxruntime.cuda:OrtCudaBackend",
        options=("cache",),
    ),
    Engine(
        "tensorrt",
        "tensorrt",
        f"{_HERE}.tensorrt.backend:TensorRtBackend",
        options=(),
        runs_built=True,
    ),
    Engine(
        "tensorrt-rtx",
        "tensorrt_rtx_cu13_bindings",
        f"{_HERE}.tensorrt.backend:TensorRtBackend",
        options=(),
        runs_built=True,
    ),
)


@functools.cache
def engines() -> dict[str, Engine]:
    """Return all engines by name: our own, then those of other packages by their names.

    Raises:
        Qsam2Error: an entry point cannot be loaded, is no :class:`Engine`, or its name is taken.
    """
    from importlib.metadata import entry_points  # as slow to import as all else here together

    found = {engine.name: engine for engine in BUILT_IN}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            engine = point.load()
        except Exception as error:  # it is somebody else's code
            raise Qsam2Error(
                f"the engine {point.name} of {point.value} cannot be loaded ({reason_of(error)}); "
                "correct or uninstall the package that brings it"
            ) from error
        if not isinstance(engine, Engine) or engine.name != point.name or point.name in found:
            raise Qsam2Error(
                f"the entry point {point.value} must be an engine of the name {point.name}, which "
                "no other has; correct or uninstall the package that brings it"
            )
        found[point.name] = engine
    return found


def backend_names() -> tuple[str, ...]:
    """Return what users may write as a backend: ``auto``, and the name of every engine."""
    return (AUTO, *engines())


def engine_named(name: str) -> Engine:
    """Return an engine.

    Raises:
        InputError: there is none of this name.
    """
    found = engines().get(name)
    if found is None:
        raise InputError(f"backend must be one of {', '.join(backend_names())}, but got {name!r}")
    return found


def installed_engines() -> list[str]:
    """Return which engines ``auto`` can choose from; the first one is taken without measuring."""
    return [engine.name for engine in engines().values() if engine.chosen and engine.installed]
