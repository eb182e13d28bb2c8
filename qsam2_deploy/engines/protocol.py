"""What an inference engine must do for us: run one of the four components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from ..spec import ModelSpec

Arrays = dict[str, npt.NDArray[Any]]

_Wrapped = TypeVar("_Wrapped", bound="WrappedBackend")


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

    def __exit__(self, *error: Any) -> None:
        """Release the engine."""
        self._backend.__exit__(*error)


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
