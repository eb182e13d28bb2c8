"""What is searched for and what is kept: the numbers of the mask generator, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ...errors import InputError

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


@dataclass(frozen=True)
class MaskRules:
    """How candidates are made, filtered and deduplicated; names are upstream's.

    Attributes:
        points_per_batch: points that are decoded at once.
        pred_iou_thresh: a candidate's predicted quality must be above it; 0 keeps all.
        stability_score_thresh: its stability must be at least this; 0 keeps all.
        stability_score_offset: how far, as a logit, the threshold is moved for the stability.
        mask_threshold: logit above which a pixel belongs to the mask.
        box_nms_thresh: overlap (IoU) of boxes above which the worse of two masks is dropped.
        crop_n_layers: how often the picture is cut into 4 times as many crops.
        crop_nms_thresh: as ``box_nms_thresh``, between crops.
        crop_overlap_ratio: overlap of neighbouring crops of the first layer, as a share of the
            picture's shorter side.
        min_mask_region_area: holes and specks of at most so many low-resolution pixels are
            filled and removed; 0 leaves them.
        output_mode: one of ``OUTPUT_MODES``.
        use_m2m: decode every candidate again with its own mask as a prompt.
        multimask_output: three candidates for each point instead of one.

    Raises:
        InputError: a number is not finite or too small, or there is no such output mode.
    """

    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    mask_threshold: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    min_mask_region_area: float
    output_mode: str
    use_m2m: bool
    multimask_output: bool

    def __post_init__(self) -> None:
        whole_number("points_per_batch", self.points_per_batch, at_least=1)
        whole_number("crop_n_layers", self.crop_n_layers, at_least=0)
        for name in (
            "pred_iou_thresh", "stability_score_thresh", "stability_score_offset",
            "mask_threshold", "box_nms_thresh", "crop_nms_thresh",
        ):  # fmt: skip
            _number(name, getattr(self, name))
        _number("crop_overlap_ratio", self.crop_overlap_ratio, low=0, high=1)
        _number("min_mask_region_area", self.min_mask_region_area, low=0)
        if self.output_mode not in OUTPUT_MODES:
            raise InputError(
                f"output_mode must be one of {', '.join(OUTPUT_MODES)}, "
                f"but got {self.output_mode!r}"
            )


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """Return ``value`` as an int.

    Raises:
        InputError: it is no whole number from ``at_least`` on.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        raise InputError(f"{name} must be a whole number from {at_least} on, but got {value!r}")
    return int(value)


def _number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> None:
    if isinstance(value, Real) and low <= float(value) <= high and math.isfinite(value):
        return
    if high < math.inf:
        wanted = f"a number from {low:g} to {high:g}"
    else:
        wanted = "a finite number" if low == -math.inf else f"a finite number from {low:g} on"
    raise InputError(f"{name} must be {wanted}, but got {value!r}")
