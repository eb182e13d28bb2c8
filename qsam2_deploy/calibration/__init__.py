"""From a float checkpoint to a quantized one; torch is loaded when a name is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "CalibrationConfig": "config",
    "CalibrationReport": "report",
    "calibrate_checkpoint": "calibrate",
}

__all__ = ["CalibrationConfig", "CalibrationReport", "calibrate_checkpoint"]

if TYPE_CHECKING:
    from .calibrate import calibrate_checkpoint
    from .config import CalibrationConfig
    from .report import CalibrationReport


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
