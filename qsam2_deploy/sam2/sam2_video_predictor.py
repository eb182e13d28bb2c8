"""What scripts import from ``sam2.sam2_video_predictor``."""

from __future__ import annotations

import os
from typing import Any

from .._common.progress import progress as tqdm
from ..predictors import video_predictor as _ours
from .build_sam import build_sam2_video_predictor_hf

__all__ = ["SAM2VideoPredictor", "SAM2VideoPredictorVOS", "tqdm"]


class SAM2VideoPredictor(_ours.SAM2VideoPredictor):
    """The predictor of this package, by the name that it has upstream."""

    @classmethod
    def from_pretrained(  # type: ignore[override]  # as upstream, of the base
        cls, model_id: str | os.PathLike[str], **kwargs: Any
    ) -> _ours.SAM2VideoPredictor:
        """Open a model by its name on the Hugging Face Hub."""
        return build_sam2_video_predictor_hf(str(model_id), **kwargs)


SAM2VideoPredictorVOS = SAM2VideoPredictor
