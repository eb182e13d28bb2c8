"""A page with pictures about a quantized checkpoint; imports quant, calibration and training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

_LAZY = {"ReportJob": "job", "write_report": "write"}

__all__ = ["ReportJob", "write_report"]

if TYPE_CHECKING:
    from .job import ReportJob
    from .write import write_report

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
