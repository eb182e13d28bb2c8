"""``torch.cuda`` of a machine without CUDA; what scripts ask before they go on, it answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from . import amp


def is_available() -> bool:
    """Return no."""
    return False


def device_count() -> int:
    """Return 0."""
    return 0


def get_device_properties(_device: Any = None) -> SimpleNamespace:
    """Return a device of no compute capability: scripts ask ``.major >= 8`` without looking."""
    return SimpleNamespace(major=0, minor=0, name="cpu", total_memory=0)


def _zero(*_args: Any, **_kwargs: Any) -> int:
    """Return 0."""
    return 0


memory_allocated = memory_reserved = max_memory_allocated = max_memory_reserved = _zero
current_device = _zero


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


empty_cache = synchronize = set_device = ipc_collect = reset_peak_memory_stats = _nothing

__all__ = ["amp", "is_available"]
