"""The masks of the points of one crop: decoded, enlarged, measured and filtered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...engines.protocol import Backend
from ...tracking.resize import bilinear_bands
from ..image_prompts import decoder_prompts
from ..still_image import (
    Embedding,
    clamped_logits,
    cleaned_logits,
    decode_masks,
    encode_image,
)
from .duplicates import best_of_overlapping
from .grid import Box, Points
from .rules import MaskRules
from .runs import Mask, Part

FloatArray = npt.NDArray[np.float32]

_NEAR = 20
"""Pixels from a crop's edge within which a mask is taken for cut off."""


@dataclass(frozen=True)
class Candidate:
    """One mask.

    Attributes:
        box: of its pixels, the last ones included, in the picture; zeros for an empty mask,
            moved by the corner of its crop.
        quality: predicted IoU.
        stability: IoU of the masks at the threshold plus and minus the offset.
        point: float32 ``[2]``, (x, y) in pixels of the picture.
        crop: where it was found.
        part: its pixels in the picture.
    """

    box: Box
    quality: np.float32
    stability: np.float32
    point: FloatArray
    crop: Box
    part: Part


def candidates_of_crop(
    backend: Backend,
    picture: npt.NDArray[np.uint8],
    crop: Box,
    grid: Points,
    rules: MaskRules,
) -> list[Candidate]:
    """Return the masks that are found in one crop, best first, without duplicates.

    Args:
        backend: an engine that was entered.
        picture: uint8 RGB ``[height, width, 3]``.
        crop: of the picture; all of it is one, too.
        grid: points as shares of the crop.
        rules: what is kept.

    Raises:
        EngineError: the engine failed.
    """
    left, top, right, bottom = crop
    search = _CropSearch(
        backend, encode_image(backend, picture[top:bottom, left:right]), crop, picture.shape, rules
    )
    points = (grid * (right - left, bottom - top)).astype(np.float32)
    step = rules.points_per_batch
    found = [
        candidate
        for start in range(0, len(points), step)
        for candidate in search.candidates(points[start : start + step])
    ]
    qualities = np.asarray([item.quality for item in found], np.float32)
    return distinct(found, qualities, rules.box_nms_thresh)


def distinct(found: list[Candidate], scores: FloatArray, threshold: float) -> list[Candidate]:
    """Return those whose boxes do not overlap a better one's, best first."""
    boxes = np.asarray([item.box for item in found], np.float32).reshape(-1, 4)
    return [found[i] for i in best_of_overlapping(boxes, scores, threshold)]


class _CropSearch:
    """Decodes points of one encoded crop."""

    def __init__(
        self,
        backend: Backend,
        image: Embedding,
        crop: Box,
        picture: tuple[int, ...],
        rules: MaskRules,
    ) -> None:
        self._backend, self._image, self._rules = backend, image, rules
        self._crop, self._picture = crop, picture

    def candidates(self, points: FloatArray) -> Iterator[Candidate]:
        """Return the masks that pass all filters, of points ``[N, 2]`` in pixels of the crop."""
        rules = self._rules
        low_res, qualities = self._decoded(points, multimask=rules.multimask_output)
        points = np.repeat(points, low_res.shape[1], axis=0)
        low_res, qualities = low_res.reshape(-1, *low_res.shape[2:]), qualities.reshape(-1)
        if rules.use_m2m:
            low_res, qualities = self._decoded_again(points, low_res)
        wanted = np.arange(len(points))
        if rules.pred_iou_thresh > 0:
            wanted = np.flatnonzero(qualities > np.float32(rules.pred_iou_thresh))
        for i in wanted:
            candidate = self._measured(low_res[i], qualities[i], points[i])
            if candidate is not None:
                yield candidate

    def _decoded(
        self, points: FloatArray, masks: FloatArray | None = None, *, multimask: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Return logits ``[N, C, S/4, S/4]`` and qualities ``[N, C]``, each point for itself."""
        labels = np.ones((len(points), 1), np.int32)
        prompts = decoder_prompts(
            points[:, None], labels, None, masks, size=self._image.size, spec=self._backend.spec
        )
        return decode_masks(self._backend, self._image, prompts, multimask=multimask)

    def _decoded_again(
        self, points: FloatArray, low_res: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Decode candidates with their own masks as prompts (upstream ``refine_with_m2m``)."""
        step = self._rules.points_per_batch
        masks, qualities = [], []
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            prompt = clamped_logits(low_res[part, None])
            better, quality = self._decoded(points[part], prompt, multimask=False)
            masks.append(better[:, 0])
            qualities.append(quality[:, 0])
        return np.concatenate(masks), np.concatenate(qualities)

    def _measured(
        self, low_res: FloatArray, quality: np.float32, point: FloatArray
    ) -> Candidate | None:
        """Enlarge one mask ``[S/4, S/4]`` as far as needed; None if a filter drops it."""
        rules, (left, top, _, _) = self._rules, self._crop
        area = rules.min_mask_region_area
        low_res = cleaned_logits(low_res, threshold=0.0, max_hole_area=area, max_sprinkle_area=area)
        mask, row, column, stability = self._enlarged(low_res)
        wanted = np.float32(rules.stability_score_thresh)
        if wanted > 0 and not stability >= wanted:
            return None
        box = _shifted(_box(mask, row, column), left, top)
        if self._is_cut_off(box):
            return None
        return Candidate(
            box=box,
            quality=quality,
            stability=stability,
            point=point + np.asarray((left, top), np.float32),
            crop=self._crop,
            part=Part.of(mask, top + row, left + column),
        )

    def _enlarged(self, low_res: FloatArray) -> tuple[Mask, int, int, np.float32]:
        """Enlarge a mask to the crop, where it can be above any threshold.

        Everywhere else logits lie between values that are not.

        Returns:
            The mask of that part, its first row and column in the crop, and the stability:
            ``|logits > threshold + offset| / |logits > threshold - offset|``, NaN where both are
            0. Pixels are counted in integers and divided in float32 (upstream
            ``calculate_stability_score``).
        """
        threshold, offset = self._rules.mask_threshold, self._rules.stability_score_offset
        high, low = np.float32(threshold + offset), np.float32(threshold - offset)
        masks: list[Mask] = []
        corner, inner, outer = (0, 0), 0, 0
        for row, column, logits in self._bands(low_res, min(low, high)):
            corner = corner if masks else (row, column)
            masks.append(logits > np.float32(threshold))
            inner += np.count_nonzero(logits > high)
            outer += np.count_nonzero(logits > low)
        mask = np.concatenate(masks) if masks else np.zeros((0, 0), np.bool_)
        with np.errstate(invalid="ignore", divide="ignore"):
            stability: np.float32 = np.float32(inner) / np.float32(outer)
        return mask, *corner, stability

    def _bands(
        self, low_res: FloatArray, lowest: np.float32
    ) -> Iterator[tuple[int, int, FloatArray]]:
        above = low_res > lowest
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if len(rows):
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            yield from bilinear_bands(low_res, *self._image.size, window)

    def _is_cut_off(self, box: Box) -> bool:
        """Whether a mask ends near an edge of the crop that is none of the picture's."""
        height, width = self._picture[:2]
        ends = zip(box, self._crop, (0, 0, width, height), strict=True)
        return any(abs(at - crop) <= _NEAR < abs(at - picture) for at, crop, picture in ends)


def _box(mask: Mask, top: int, left: int) -> Box:
    """Return the box of the pixels, the last ones included; zeros where there is none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return 0, 0, 0, 0
    columns = np.flatnonzero(mask.any(axis=0))
    x1, x2 = int(columns[0]), int(columns[-1])
    y1, y2 = int(rows[0]), int(rows[-1])
    return left + x1, top + y1, left + x2, top + y2


def _shifted(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y
