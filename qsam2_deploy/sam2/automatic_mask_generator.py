"""What scripts import from ``sam2.automatic_mask_generator``."""

from __future__ import annotations

from typing import Any

from ..predictors.automatic import generator as _ours
from ..predictors.camera_predictor import SAM2CameraPredictor
from ..predictors.shared_model import SharedModel
from ..predictors.video_predictor import SAM2VideoPredictor
from .build_sam import build_sam2_hf

__all__ = ["SAM2AutomaticMaskGenerator"]

_ARGUMENTS = (
    "points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh",
    "stability_score_offset", "mask_threshold", "box_nms_thresh", "crop_n_layers",
    "crop_nms_thresh", "crop_overlap_ratio", "crop_n_points_downscale_factor", "point_grids",
    "min_mask_region_area", "output_mode", "use_m2m", "multimask_output",
)  # fmt: skip


class SAM2AutomaticMaskGenerator(_ours.SAM2AutomaticMaskGenerator):
    """Takes what ``build_sam2`` returned, or a predictor of videos, as upstream's does."""

    def __init__(
        self,
        model: SharedModel | SAM2VideoPredictor | SAM2CameraPredictor,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Share the model.

        Args:
            model: of ``build_sam2`` or ``build_sam2_video_predictor``.
            *args: see :class:`qsam2_deploy.SAM2AutomaticMaskGenerator`.
            **kwargs: likewise; others are ignored, as upstream.
        """
        shared = model if isinstance(model, SharedModel) else model.model
        known = {name: value for name, value in kwargs.items() if name in _ARGUMENTS}
        super().__init__(shared, *args, **known)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """Open a model by its name on the Hugging Face Hub."""
        return cls(build_sam2_hf(model_id, **kwargs), **kwargs)
