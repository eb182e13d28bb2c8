"""From the clicks, boxes and masks of a still image to the mask decoder's inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..spec import ModelSpec

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int32]

_BOX_LABELS = (2, 3)
_PADDING_LABEL = -1
_LABELS = (_PADDING_LABEL, 0, 1, *_BOX_LABELS)


@dataclass(frozen=True)
class DecoderPrompts:
    """Prompts of ``B`` objects as the mask decoder takes them.

    Attributes:
        coords: float32 ``[B, P, 2]``, (x, y) in pixels of the model's input; ``P`` may be 0.
        labels: int32 ``[B, P]``: 1 here, 0 not here, 2 and 3 corners of a box, -1 padding.
        mask_input: float32 ``[B, 1, S/4, S/4]``, zeros where there is none.
        has_mask: bool ``[B]``.
    """

    coords: FloatArray
    labels: LabelArray
    mask_input: FloatArray
    has_mask: npt.NDArray[np.bool_]


def decoder_prompts(
    point_coords: npt.ArrayLike | None,
    point_labels: npt.ArrayLike | None,
    box: npt.ArrayLike | None,
    mask_input: npt.ArrayLike | None,
    *,
    size: tuple[int, int],
    spec: ModelSpec,
) -> DecoderPrompts:
    """Merge the prompts of upstream ``SAM2ImagePredictor.predict``.

    The corners of a box go before the points, and a padding point ends the list, except where
    there are neither points nor boxes: then it is empty (upstream ``_predict`` and
    ``PromptEncoder._embed_points``).

    Args:
        point_coords: ``[P, 2]`` or ``[B, P, 2]``, or None.
        point_labels: ``[P]`` or ``[B, P]``, or None.
        box: ``[4]`` or ``[B, 4]``, (x1, y1, x2, y2), or None.
        mask_input: ``[1, S/4, S/4]`` or ``[B, 1, S/4, S/4]`` logits, or None.
        size: height and width in whose units the coordinates are; (1, 1) for shares.
        spec: gives ``S``.

    Raises:
        PromptError: a prompt has another shape, an unknown label or a non-finite number, or the
            prompts are for different numbers of objects.
    """
    parts = []
    if box is not None:
        parts.append(_box_corners(box))
    if point_coords is not None or point_labels is not None:
        parts.append(_points(point_coords, point_labels))
    if parts:
        coords, labels = _joined(parts)
    else:
        objects = 1 if mask_input is None else len(_masks(mask_input, spec))
        coords, labels = np.zeros((objects, 0, 2), np.float32), np.zeros((objects, 0), np.int32)
    masks, has_mask = _batch_of_masks(mask_input, len(coords), spec)
    return DecoderPrompts(_scaled(coords, size, spec), labels, masks, has_mask)


def _box_corners(box: npt.ArrayLike) -> tuple[FloatArray, LabelArray]:
    corners = _numbers(box, "box")
    if corners.ndim not in (1, 2) or corners.shape[-1] != 4 or corners.size == 0:
        raise PromptError(
            f"box must have shape [4] or [B, 4] (x1, y1, x2, y2), but got {list(corners.shape)}"
        )
    corners = corners.reshape(-1, 2, 2)
    return corners, np.tile(np.asarray(_BOX_LABELS, np.int32), (len(corners), 1))


def _points(
    point_coords: npt.ArrayLike | None, point_labels: npt.ArrayLike | None
) -> tuple[FloatArray, LabelArray]:
    if point_coords is None or point_labels is None:
        given, missing = (
            ("point_labels", "point_coords")
            if point_coords is None
            else ("point_coords", "point_labels")
        )
        raise PromptError(f"{given} was given without {missing}; give both or neither")
    coords = _numbers(point_coords, "point_coords")
    if coords.ndim not in (2, 3) or coords.shape[-1] != 2 or len(coords) == 0:
        raise PromptError(
            f"point_coords must have shape [P, 2] or [B, P, 2], but got {list(coords.shape)}"
        )
    values = _numbers(point_labels, "point_labels")
    if values.shape != coords.shape[:-1]:
        raise PromptError(
            f"point_labels must have shape {list(coords.shape[:-1])}, one label for each point, "
            f"but got {list(values.shape)}"
        )
    if not np.isin(values, _LABELS).all():
        unknown = values[~np.isin(values, _LABELS)][0]
        raise PromptError(
            f"point_labels must be 1 (the object is here), 0 (it is not) or -1 (ignored), "
            f"but got {unknown:g}"
        )
    labels = values.astype(np.int32)
    return (coords[None], labels[None]) if coords.ndim == 2 else (coords, labels)


def _joined(parts: list[tuple[FloatArray, LabelArray]]) -> tuple[FloatArray, LabelArray]:
    """Concatenate boxes, points and the padding point of each object."""
    objects = len(parts[0][0])
    if any(len(coords) != objects for coords, _ in parts):
        raise PromptError(
            f"box and point_coords must be for the same number of objects, but got "
            f"{len(parts[0][0])} boxes and points for {len(parts[1][0])}; "
            f"give point_coords the shape [{objects}, P, 2]"
        )
    padding = np.zeros((objects, 1, 2), np.float32)
    coords = np.concatenate([*(coords for coords, _ in parts), padding], axis=1)
    ending = np.full((objects, 1), _PADDING_LABEL, np.int32)
    return coords, np.concatenate([*(labels for _, labels in parts), ending], axis=1)


def _scaled(coords: FloatArray, size: tuple[int, int], spec: ModelSpec) -> FloatArray:
    """Bring (x, y) to pixels of the model's input, divided first as upstream does."""
    height, width = size
    share = coords / np.asarray([width, height], np.float32)
    return np.asarray(share * np.float32(spec.image_size), np.float32)


def _masks(mask_input: npt.ArrayLike, spec: ModelSpec) -> FloatArray:
    """Return mask prompts as ``[B, 1, S/4, S/4]``."""
    masks = _numbers(mask_input, "mask_input")
    side = spec.mask_size
    if masks.ndim not in (3, 4) or masks.shape[-3:] != (1, side, side) or masks.size == 0:
        raise PromptError(
            f"mask_input must have shape [1, {side}, {side}] or [B, 1, {side}, {side}], but got "
            f"{list(masks.shape)}; use low-resolution logits of an earlier prediction"
        )
    return masks.reshape(-1, 1, side, side)


def _batch_of_masks(
    mask_input: npt.ArrayLike | None, objects: int, spec: ModelSpec
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return one mask prompt for each object; a single one serves all, as upstream."""
    shape = (objects, 1, spec.mask_size, spec.mask_size)
    if mask_input is None:
        return np.zeros(shape, np.float32), np.zeros(objects, np.bool_)
    masks = _masks(mask_input, spec)
    if len(masks) not in (1, objects):
        raise PromptError(
            f"mask_input must hold one mask for each of the {objects} objects, but got {len(masks)}"
        )
    return np.ascontiguousarray(np.broadcast_to(masks, shape)), np.ones(objects, np.bool_)


def _numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} must be an array of numbers: {error}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{name} must hold finite numbers only, but got NaN or infinity")
    return array
