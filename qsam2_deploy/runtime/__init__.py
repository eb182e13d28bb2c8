"""The public names of what runs on a device: numpy and one inference engine, no torch.

Names are loaded when they are first used, so that importing this package takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

_LAZY = {
    "FrameResult": ".tracking.results",
    "ObjectResult": ".tracking.results",
    "Prompt": ".tracking.results",
    "SAM2AutomaticMaskGenerator": ".predictors.automatic.generator",
    "SAM2ImagePredictor": ".predictors.image_predictor",
    "SAM2VideoPredictor": ".predictors.video_predictor",
    "VideoSegmenter": ".predictors.segmenter",
    "build_sam2_video_predictor": ".predictors.build_sam",
    "build_sam2_video_predictor_hf": ".predictors.build_sam",
    "engine_from_onnx": ".engine_build.build",
    "open_backend": ".engines.open",
    "segment_video": ".predictors.segment_video",
}

__all__ = [
    "FrameResult",
    "ObjectResult",
    "Prompt",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "VideoSegmenter",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
    "engine_from_onnx",
    "open_backend",
    "segment_video",
]

if TYPE_CHECKING:
    from ..engine_build.build import engine_from_onnx
    from ..engines.open import open_backend
    from ..predictors.automatic.generator import SAM2AutomaticMaskGenerator
    from ..predictors.build_sam import build_sam2_video_predictor, build_sam2_video_predictor_hf
    from ..predictors.image_predictor import SAM2ImagePredictor
    from ..predictors.segment_video import segment_video
    from ..predictors.segmenter import VideoSegmenter
    from ..predictors.video_predictor import SAM2VideoPredictor
    from ..tracking.results import FrameResult, ObjectResult, Prompt

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
