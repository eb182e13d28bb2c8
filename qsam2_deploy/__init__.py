"""qsam2-deploy: Segment Anything Model 2 from a PyTorch checkpoint to low-bit integer inference.

Importing this package loads neither torch nor an inference engine; the names below load what they
need when they are first used. The telemetry of the engines is off, unless QSAM2_ALLOW_TELEMETRY=1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._common import telemetry as _telemetry
from ._common.lazy import lazy_names
from ._common.version import __version__

# Before anything can import an engine, in every way into the package.
_telemetry.silence()

_LAZY = {
    "Prompt": "runtime",
    "SAM2AutomaticMaskGenerator": "runtime",
    "SAM2ImagePredictor": "runtime",
    "SAM2VideoPredictor": "runtime",
    "VideoSegmenter": "runtime",
    "calibrate_checkpoint": "calibration",
    "engine_from_onnx": "runtime",
    "onnx_from_checkpoint": "export",
}

__all__ = [
    "Prompt",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "VideoSegmenter",
    "__version__",
    "calibrate_checkpoint",
    "engine_from_onnx",
    "onnx_from_checkpoint",
]

if TYPE_CHECKING:
    from .calibration import calibrate_checkpoint
    from .export import onnx_from_checkpoint
    from .runtime import (
        Prompt,
        SAM2AutomaticMaskGenerator,
        SAM2ImagePredictor,
        SAM2VideoPredictor,
        VideoSegmenter,
        engine_from_onnx,
    )

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
