"""What scripts ask of a torch module that a model in an engine can answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TypeVar

_Module = TypeVar("_Module", bound="ModuleLike")


class Device:
    """A device by name, with the attributes of a ``torch.device``: ``Device("cuda:0")``."""

    def __init__(self, name: object = "cpu", index: int | None = None) -> None:
        """Name a device: a text, another device, or a kind and a number."""
        kind, _, number = str(name).partition(":")
        self.type = kind
        self.index = int(number) if number else index

    def __str__(self) -> str:
        """Return the name."""
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        """Return the name as torch shows it."""
        return f"device(type={self.type!r})"

    def __eq__(self, other: object) -> bool:
        """Compare with a device or a name."""
        return str(self) == str(other)

    def __hash__(self) -> int:
        """Return the hash of the name."""
        return hash(str(self))


class ModuleLike:
    """A mixin that answers ``.to(device).eval()`` and the like; the engine decides where it is."""

    @property
    def device(self) -> Any:
        """Where results are: ``cpu``; a ``torch.device`` where torch has been imported."""
        make = getattr(sys.modules.get("torch"), "device", None)
        return Device("cpu") if make is None else make("cpu")

    def to(self: _Module, *_args: Any, **_kwargs: Any) -> _Module:
        """Return the model itself: its engine decides where it runs, and in which precision."""
        return self

    def eval(self: _Module) -> _Module:
        """Return the model itself: there is nothing to train."""
        return self

    def train(self: _Module, mode: bool = True) -> _Module:
        """Return the model itself for ``mode=False``.

        Raises:
            NotImplementedError: an exported model cannot be trained.
        """
        if mode:
            raise NotImplementedError(
                "an exported model cannot be trained; train the checkpoint with qsam2-train, and "
                "export it again"
            )
        return self

    def cuda(self: _Module, *_args: Any, **_kwargs: Any) -> _Module:
        """Return the model itself, see :meth:`to`; likewise the others."""
        return self

    cpu = float = half = bfloat16 = requires_grad_ = cuda

    def parameters(self) -> Iterator[Any]:
        """Return nothing: the weights are in the engine."""
        return iter(())
