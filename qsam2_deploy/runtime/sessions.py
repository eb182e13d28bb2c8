"""What the backends with one engine session for each component have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import EngineError
from ..spec import ModelSpec
from .bundle import read_bundle

Session = TypeVar("Session")


class ComponentSessions(Generic[Session]):
    """The sessions of an engine for the components of a bundle; a context manager.

    The bundle is read and checked at once, and sessions are made on entering the context. It can
    be entered again, which reads the file again.

    Attributes:
        spec: metadata of the model.
        digest: SHA-256 of its contents, as its seal says.
    """

    def __init__(
        self, model: str | os.PathLike[str], make_session: Callable[[Any], Session]
    ) -> None:
        """Read and check ``model``.

        Args:
            model: path of a ``model.onnx``.
            make_session: makes the session of a component, an ``onnx.ModelProto`` that it may
                change.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``onnx`` is not installed.
        """
        bundle = read_bundle(model)
        self.spec: ModelSpec = bundle.spec
        self.digest = bundle.digest
        self._path = bundle.path
        self._components = bundle.components
        self._make_session = make_session
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> ComponentSessions[Session]:
        """Make the sessions; the protobuf models are let go one by one.

        Raises:
            EngineError: the engine refuses the model.
        """
        if not self._components and not self._sessions:
            self._components = read_bundle(self._path).components
        try:
            while self._components:
                name = next(iter(self._components))
                self._sessions[name] = self._make_session(self._components.pop(name))
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

    def __getitem__(self, component: str) -> Session:
        """Return the session of a component.

        Raises:
            EngineError: the context has not been entered.
        """
        if component not in self._sessions:
            raise EngineError(f"the backend is closed: enter it before running {component}")
        return self._sessions[component]
