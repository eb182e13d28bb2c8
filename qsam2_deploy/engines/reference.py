"""A model in floats on ONNX Runtime, for what looks into models or compares engines with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from ..lowering import QUERY_BLOCK
from ..lowering.chunk_attention import chunk_attention
from ..model_file.bundle import Bundle
from ..onnx_graph.tensors import copy_of
from ..spec import ModelSpec
from .onnxruntime.cpu import run_session, session_from_lowered
from .protocol import Arrays

if TYPE_CHECKING:
    import onnx

_Backend = TypeVar("_Backend", bound="ReferenceBackend")


class ReferenceBackend(ABC):
    """Runs a bundle in ONNX Runtime, lowered as the subclass says; the bundle stays as it is."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Take a model, and the number of threads of its engine."""
        self._bundle, self._threads = bundle, threads
        self._sessions: dict[str, Any] = {}

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._bundle.spec

    def __enter__(self: _Backend) -> _Backend:
        """Make the sessions.

        Raises:
            EngineError: ONNX Runtime refuses a component.
        """
        for name, component in self._bundle.components.items():
            own = copy_of(component)
            self._lower(name, own)
            chunk_attention(own, QUERY_BLOCK)
            data = own.SerializeToString()
            self._sessions[name] = session_from_lowered(data, name, self._threads)
        return self

    def __exit__(self, *error: object) -> None:
        """Release the sessions; what was found stays."""
        self._sessions.clear()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component."""
        return run_session(self._sessions[component], component, inputs)

    @abstractmethod
    def _lower(self, name: str, component: onnx.ModelProto) -> None:
        """Change a component into floats that ONNX Runtime runs."""
