"""What the backends with one engine session for each component have in common."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt

from .._common.contradictions import contradictions
from .._common.machine import usable_threads
from ..errors import EngineError
from ..model_file.bundle import read_bundle
from ..model_file.lowered_cache import LoweredCache, lowered_model
from ..spec import ModelSpec
from .options import BackendOptions
from .protocol import Arrays

_Backend = TypeVar("_Backend", bound="SessionBackend")


class SessionBackend(ABC):
    """Runs a bundle with one session of an engine per component; a context manager.

    The bundle is read and checked at once, and sessions are made on entering the context. It can
    be entered again, which reads the file again.
    """

    NAME: ClassVar[str]

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
    ) -> None:
        """Read and check ``model``.

        Args:
            model: path of a ``model.onnx``.
            threads: see :class:`~.options.BackendOptions`.
            cache: likewise.
            precision: likewise; a warning says if ``fast`` is computed exactly here.

        Raises:
            InputError: an option is not allowed.
            ModelFileError: the file cannot be used.
            MissingDependencyError: the engine or ``onnx`` is not installed.
            EngineError: integer products are not exact on this processor, whichever way they are
                written.
        """
        options = BackendOptions(threads, cache, precision)
        self._require_engine()
        obstacle = self._obstacle_to_fast() if precision == "fast" else None
        if obstacle is not None:
            warnings.warn(f"{obstacle}, so precision 'fast' computes exactly", stacklevel=2)
        self._precision = precision if obstacle is None else "exact"
        bundle = read_bundle(model)
        self._spec = bundle.spec
        self._path = bundle.path
        self._components = bundle.components
        # An engine's own choice counts processors that this process may not use, and ONNX Runtime
        # even pins threads to them.
        self._threads = options.threads or usable_threads()
        self._digest, self._folder = bundle.digest, options.cache
        self._cache = None if cache is None else self._lowered_cache(cache, bundle.digest)
        self._sessions: dict[str, Any] = {}
        self._require_exact()

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._spec

    @property
    def name(self) -> str:
        """The engine's name, of :func:`.registry.backend_names`."""
        return self.NAME

    @property
    def precision(self) -> str:
        """How numbers that are not quantized are computed, of :data:`.options.PRECISIONS`."""
        return self._precision

    @property
    def concurrent(self) -> bool:
        """Whether two components may run at the same time; not with one thread.

        Each component has all ``threads``, and so has each of two that run together; they sleep
        while they wait, and the system shares the cores out. On two cores a frame was 1.89 times
        as fast as on one (SAM 2.1 tiny, W8A8, 1024 pixels, ONNX Runtime), against 1.78 with one
        component at a time (``benchmarks.speed.scaling``).
        """
        return self._threads != 1

    def __enter__(self: _Backend) -> _Backend:
        """Make the sessions; the protobuf models are let go one by one.

        Raises:
            EngineError: the engine refuses the model.
            ModelFileError: the graph of a component contradicts itself.
        """
        if not self._components and not self._sessions:
            self._components = read_bundle(self._path).components
        try:
            while self._components:
                name = next(iter(self._components))
                self._sessions[name] = self._session(self._components.pop(name))
        except BaseException:
            # What is left is not the whole model: entering again has to read the file again.
            self._sessions.clear()
            self._components.clear()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Release the sessions."""
        self._sessions.clear()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.engines.protocol.Backend`."""
        if component not in self._sessions:
            raise EngineError(f"the backend is closed: enter it before running {component}")
        return self._run(self._sessions[component], component, inputs)

    def _session(self, component: Any) -> Any:
        name = component.graph.name
        what = f"its component {name} cannot be prepared for the engine {self.NAME}"
        with contradictions(self._path, what):
            lowered = lowered_model(component, self._lower, self._cache)
            return self._open(lowered, name)

    @staticmethod
    @abstractmethod
    def _require_engine() -> None:
        """Raise MissingDependencyError if the engine is not installed."""

    @abstractmethod
    def _require_exact(self) -> None:
        """Raise EngineError if the engine cannot multiply integers exactly on this processor."""

    @staticmethod
    @abstractmethod
    def _obstacle_to_fast() -> str | None:
        """Say why the engine has nothing faster than exact floats here; None if it has."""

    @abstractmethod
    def _lower(self, component: Any) -> None:
        """Change a component, an ``onnx.ModelProto``, into what the engine takes."""

    @abstractmethod
    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        """Return the cache of what ``_lower`` makes of the model of this ``digest``."""

    @abstractmethod
    def _open(self, lowered: bytes, name: str) -> Any:
        """Return the session of a serialised lowered component."""

    @abstractmethod
    def _run(self, session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run a session that ``_open`` returned."""
