"""What the backends with one engine session for each component have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import numpy.typing as npt

from ..errors import EngineError
from ..spec import ModelSpec
from .backend import Arrays
from .bundle import read_bundle
from .lowered_cache import LoweredCache, lowered_model

_Backend = TypeVar("_Backend", bound="SessionBackend")


class SessionBackend(ABC):
    """Runs a bundle with one session of an engine per component; a context manager.

    The bundle is read and checked at once, and sessions are made on entering the context. It can
    be entered again, which reads the file again.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Read and check ``model``.

        Args:
            model: path of a ``model.onnx``.
            threads: threads within an operator; default: the engine's own choice.
            cache: folder for the lowered graphs; see :mod:`.lowered_cache`. Default: none.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: the engine or ``onnx`` is not installed.
        """
        self._require_engine()
        bundle = read_bundle(model)
        self._spec = bundle.spec
        self._path = bundle.path
        self._components = bundle.components
        self._threads = threads
        self._cache = None if cache is None else self._lowered_cache(cache, bundle.digest)
        self._sessions: dict[str, Any] = {}

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._spec

    def __enter__(self: _Backend) -> _Backend:
        """Make the sessions; the protobuf models are let go one by one.

        Raises:
            EngineError: the engine refuses the model.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the sessions."""
        self._sessions.clear()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.runtime.backend.Backend`."""
        if component not in self._sessions:
            raise EngineError(f"the backend is closed: enter it before running {component}")
        return self._run(self._sessions[component], component, inputs)

    def _session(self, component: Any) -> Any:
        lowered = lowered_model(component, self._lower, self._cache)
        return self._open(lowered, component.graph.name)

    @staticmethod
    @abstractmethod
    def _require_engine() -> None:
        """Raise MissingDependencyError if the engine is not installed."""

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
