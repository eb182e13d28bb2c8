"""Masks at the frame's size: of all objects at once, or of each when it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock

import numpy as np
import numpy.typing as npt

from ..spec import NO_OBJ_SCORE
from .memory import MemoryEntry
from .postprocess import non_overlapping
from .resize import resize_bilinear
from .results import ObjectResult

FloatArray = npt.NDArray[np.float32]


def enlarged_logits(
    entries: Sequence[MemoryEntry | None], frame_size: tuple[int, int], *, non_overlap: bool
) -> FloatArray:
    """Return the logits of all objects on a frame, float32 ``[objects, 1, height, width]``.

    Args:
        entries: of the objects; None is absent everywhere.
        frame_size: height and width in pixels.
        non_overlap: a pixel belongs to the object of the highest logit alone.
    """
    masks = np.full((len(entries), 1, *frame_size), NO_OBJ_SCORE, np.float32)
    for mask, entry in zip(masks, entries, strict=True):
        if entry is not None:
            mask[0] = resize_bilinear(entry.mask_logits, *frame_size)
    return non_overlapping(masks) if non_overlap else masks


def lazy_results(
    object_ids: Sequence[int],
    entries: Sequence[MemoryEntry],
    frame_size: tuple[int, int],
    *,
    non_overlap: bool,
) -> tuple[ObjectResult, ...]:
    """Return the results of all objects on a frame.

    Args:
        object_ids: the user's numbers.
        entries: of the objects, in the same order.
        frame_size: height and width in pixels.
        non_overlap: a pixel belongs to the object of the highest logit alone. Then the first mask
            that is read enlarges all of them; else each is enlarged for itself.
    """
    masks = [entry.mask_logits for entry in entries]
    row: Callable[[int], FloatArray]
    if non_overlap:
        row = _WithoutOverlap(masks, frame_size).row
    else:
        row = partial(_enlarged, masks, frame_size)
    return tuple(
        ObjectResult.lazy(object_id, mask, entry.object_score, partial(row, index))
        for index, (object_id, mask, entry) in enumerate(
            zip(object_ids, masks, entries, strict=True)
        )
    )


def _enlarged(masks: Sequence[FloatArray], frame_size: tuple[int, int], index: int) -> FloatArray:
    return resize_bilinear(masks[index], *frame_size)


class _WithoutOverlap:
    """All masks of a frame, enlarged once and cut where they overlap."""

    def __init__(self, masks: Sequence[FloatArray], frame_size: tuple[int, int]) -> None:
        self._masks, self._frame_size = masks, frame_size
        self._lock = Lock()
        self._logits: FloatArray | None = None

    def row(self, index: int) -> FloatArray:
        """Return the logits of one object ``[height, width]``."""
        with self._lock:
            if self._logits is None:
                enlarged = resize_bilinear(np.stack(self._masks), *self._frame_size)
                self._logits = non_overlapping(enlarged[:, None])[:, 0]
            row: FloatArray = self._logits[index]
            return row
