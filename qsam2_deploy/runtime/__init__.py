"""Promptable video segmentation without torch: numpy and one inference engine.

Names are loaded when they are first used, so that importing this package takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

_LAZY = {
    "FrameResult": ".tracking.results",
    "ObjectResult": ".tracking.results",
    "Prompt": ".tracking.results",
    "SAM2ImagePredictor": "image_predictor",
    "SAM2VideoPredictor": "video_predictor",
    "VideoSegmenter": "segmenter",
    "build_sam2_video_predictor": "build",
    "engine_from_onnx": ".engine_build.build",
    "open_backend": ".engines.protocol",
    "segment_video": "segment_video",
}

__all__ = [
    "FrameResult",
    "ObjectResult",
    "Prompt",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "VideoSegmenter",
    "build_sam2_video_predictor",
    "engine_from_onnx",
    "open_backend",
    "segment_video",
]

if TYPE_CHECKING:
    from ..engine_build.build import engine_from_onnx
    from ..engines.protocol import open_backend
    from ..tracking.results import FrameResult, ObjectResult, Prompt
    from .build import build_sam2_video_predictor
    from .image_predictor import SAM2ImagePredictor
    from .segment_video import segment_video
    from .segmenter import VideoSegmenter
    from .video_predictor import SAM2VideoPredictor

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
