"""From a float checkpoint to a quantized one: plan, VRC, clips, PTQ; imports quant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
