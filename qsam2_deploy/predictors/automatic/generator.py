"""Masks of everything in a picture, without torch and without prompts.

The arguments, rules and results are those of upstream
``sam2.automatic_mask_generator.SAM2AutomaticMaskGenerator``; the model is a file instead of a torch
module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...engines.protocol import Backend
from ...errors import InputError
from ...tracking.preprocess import check_rgb
from ..image_predictor import SAM2ImagePredictor
from ..still_image import rgb_array
from .candidates import Candidate, candidates_of_crop, distinct
from .grid import Box, Points, checked_grids, crop_boxes, grids_of_layers
from .rules import MaskRules
from .runs import Part


class SAM2AutomaticMaskGenerator:
    """Drop-in for upstream's automatic mask generator.

    ::

        with SAM2AutomaticMaskGenerator("model.onnx") as generator:
            for found in generator.generate(image):
                mask = found["segmentation"]  # bool [height, width]

    A grid of points is laid over the picture, each is decoded for itself, and what the model
    believes in, what is stable and what is not there twice is kept. The engine is opened when it is
    first needed and closed by :meth:`close` or by leaving the ``with`` block.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend | SAM2ImagePredictor,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[npt.ArrayLike] | None = None,
        min_mask_region_area: float = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        *,
        backend: str = "auto",
        threads: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
    ) -> None:
        """Choose the model and what is kept; the engine is loaded when it is first needed.

        Args:
            model: a ``model.onnx``, a ``model.engine``, a backend of one's own that was not yet
                entered, or an image predictor, whose engine is used and whose image stays set.
            points_per_side: of the grid, which has its square; None with ``point_grids``.
            points_per_batch: points that are decoded at once; more take more memory.
            pred_iou_thresh: a mask's predicted quality must be above it; 0 keeps all.
            stability_score_thresh: its stability must be at least this; 0 keeps all. Stability is
                the IoU of the masks at ``mask_threshold`` plus and minus the offset.
            stability_score_offset: see there, as a logit.
            mask_threshold: logit above which a pixel belongs to the mask.
            box_nms_thresh: IoU of boxes above which the worse of two masks is dropped.
            crop_n_layers: search ``4^i`` crops of the picture, too, for ``i`` from 1 to this.
            crop_nms_thresh: as ``box_nms_thresh``, between crops; smaller crops win.
            crop_overlap_ratio: of neighbouring crops of the first layer, as a share of the
                picture's shorter side, from 0 to 1; half of that in each further layer.
            crop_n_points_downscale_factor: each layer has so many times fewer points per side.
            point_grids: own points instead of ``points_per_side``: one ``[N, 2]`` for the picture
                and one for each layer, (x, y) as shares from 0 to 1.
            min_mask_region_area: fill holes and remove specks of at most so many pixels of the
                model's own masks, of which there are ``S/4 x S/4``.
            output_mode: ``binary_mask``, ``uncompressed_rle`` or ``coco_rle``.
            use_m2m: decode every candidate once more with its own mask as a prompt.
            multimask_output: three candidates for each point instead of one.
            backend: see :func:`~qsam2_deploy.runtime.open_backend`; not with an image predictor,
                likewise the following ones.
            threads: see there.
            cache: see there.
            precision: see there.

        Raises:
            InputError: an argument is of another kind or out of range, or both or neither of
                ``points_per_side`` and ``point_grids`` are given.
            ModelFileError: the model cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        if (points_per_side is None) == (point_grids is None):
            given = "neither" if point_grids is None else "both"
            raise InputError(
                "exactly one of points_per_side and point_grids must be given, but got "
                f"{given}; with point_grids say points_per_side=None"
            )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.mask_threshold = mask_threshold
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output
        self._rules()
        self.point_grids: list[Points]
        if point_grids is not None:
            self.point_grids = checked_grids(point_grids, crop_n_layers)
        elif points_per_side is not None:
            self.point_grids = grids_of_layers(
                points_per_side, crop_n_layers, crop_n_points_downscale_factor
            )
        self._owns_predictor = not isinstance(model, SAM2ImagePredictor)
        self.predictor = (
            model
            if isinstance(model, SAM2ImagePredictor)
            else SAM2ImagePredictor(
                _checked_model(model), backend, threads, cache=cache, precision=precision
            )
        )

    def __enter__(self) -> SAM2AutomaticMaskGenerator:
        """Open the engine."""
        self.predictor.opened()
        return self

    def __exit__(self, *error: object) -> None:
        """Close the engine."""
        self.close()

    @property
    def engine(self) -> str:
        """The engine and its precision, such as ``openvino, exact``; for people to read."""
        return self.predictor.engine

    def close(self) -> None:
        """Close the engine, unless it is that of an image predictor that was given.

        It opens again when it is needed.
        """
        if self._owns_predictor:
            self.predictor.close()

    def generate(self, image: npt.NDArray[np.uint8] | Image.Image) -> list[dict[str, Any]]:
        """Return the masks of everything in a picture, those of the best predicted quality first.

        With crops, masks of smaller crops come first.

        Args:
            image: uint8 RGB array ``[height, width, 3]``, or a Pillow image.

        Returns:
            One dictionary for each mask:

            - ``segmentation``: bool ``[height, width]``; or ``{"size": [height, width],
              "counts": runs}``, where the runs of background and mask in turn, down the columns,
              are a list of numbers (``uncompressed_rle``) or COCO's text (``coco_rle``);
            - ``area``: int, its pixels;
            - ``bbox``: ``[x, y, x2 - x, y2 - y]``, floats; ``x2`` and ``y2`` are those of the last
              pixels, so that width and height are one less than the numbers of columns and rows;
            - ``predicted_iou`` and ``stability_score``: floats;
            - ``point_coords``: ``[[x, y]]``, floats, the point that it was found by;
            - ``crop_box``: ``[x, y, width, height]``, floats, the crop that it was found in.

        Raises:
            VideoError: the picture is of another type or shape, or has no pixels.
            InputError: it is too small for so many crops, or an attribute was set to what the
                constructor refuses.
            ModelFileError: the model cannot be opened.
            EngineError: the engine failed.
        """
        picture, rules = rgb_array(image), self._rules()
        check_rgb(picture, "the image")
        size = picture.shape[0], picture.shape[1]
        crops = list(crop_boxes(size, rules.crop_n_layers, rules.crop_overlap_ratio))
        backend = self.predictor.opened()
        found = [
            candidate
            for crop, layer in crops
            for candidate in candidates_of_crop(
                backend, picture, crop, self.point_grids[layer], rules
            )
        ]
        if len(crops) > 1:
            found = distinct(found, _smaller_crops_first(found), rules.crop_nms_thresh)
        return [_record(item, size, rules.output_mode) for item in found]

    def _rules(self) -> MaskRules:
        """Return what the attributes say now, checked."""
        return MaskRules(
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            mask_threshold=self.mask_threshold,
            box_nms_thresh=self.box_nms_thresh,
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=self.crop_nms_thresh,
            crop_overlap_ratio=self.crop_overlap_ratio,
            min_mask_region_area=self.min_mask_region_area,
            output_mode=self.output_mode,
            use_m2m=self.use_m2m,
            multimask_output=self.multimask_output,
        )


def _checked_model(model: Any) -> str | os.PathLike[str] | Backend:
    if isinstance(model, (str, os.PathLike)) or (hasattr(model, "run") and hasattr(model, "spec")):
        checked: str | os.PathLike[str] | Backend = model
        return checked
    raise InputError(
        "model must be the path of a model.onnx or model.engine, a backend, or a "
        f"SAM2ImagePredictor, but got {type(model).__name__}"
    )


def _smaller_crops_first(found: list[Candidate]) -> npt.NDArray[np.float32]:
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (item.crop for item in found)]
    return np.asarray(np.float32(1) / np.asarray(areas, np.float32), np.float32)


def _record(found: Candidate, size: tuple[int, int], output_mode: str) -> dict[str, Any]:
    return {
        "segmentation": _segmentation(found.part, size, output_mode),
        "area": found.part.area,
        "bbox": _corner_and_sides(found.box),
        "predicted_iou": float(found.quality),
        "point_coords": [found.point.tolist()],
        "stability_score": float(found.stability),
        "crop_box": _corner_and_sides(found.crop),
    }


def _segmentation(part: Part, size: tuple[int, int], output_mode: str) -> Any:
    if output_mode == "binary_mask":
        return part.mask(size)
    counts = part.coco_counts(size)
    if output_mode == "uncompressed_rle":
        return {"size": list(size), "counts": counts}
    from ...data.datasets.rle import text_of_runs

    return {"size": list(size), "counts": text_of_runs(counts)}


def _corner_and_sides(box: Box) -> list[float]:
    x1, y1, x2, y2 = box
    return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
