"""What goes into and comes out of the segmenters: plain dataclasses of numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Prompt:
    """What the user says about one object on one frame, in pixels of that frame.

    Give points (with labels), a box (alone or with points), or a mask (alone).

    Attributes:
        object_id: the user's number for the object, a non-negative integer.
        points: ``(x, y)`` pairs; the origin is the upper left corner.
        labels: one per point: 1 the object is here, 0 it is not.
        box: ``(x1, y1, x2, y2)`` with ``x1 < x2`` and ``y1 < y2``.
        mask: bool array of the frame's shape ``[height, width]``.
        clear_old_points: forget earlier points on this frame (as in the official predictor);
            False adds these points to them.
    """

    object_id: int = 1
    points: Sequence[tuple[float, float]] = ()
    labels: Sequence[int] = ()
    box: tuple[float, float, float, float] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    clear_old_points: bool = True


@dataclass(frozen=True)
class ObjectResult:
    """One object on one frame.

    Attributes:
        object_id: the user's number for the object.
        mask: bool ``[height, width]``: logits above 0.
        logits: float32 ``[height, width]`` at frame resolution.
        score: object score logit; above 0 the model believes that the object is visible.
        visible: ``score > 0``.
    """

    object_id: int
    mask: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]
    score: float
    visible: bool


@dataclass(frozen=True)
class FrameResult:
    """All objects on one frame, in the order in which they were added."""

    frame_index: int
    objects: tuple[ObjectResult, ...] = field(default_factory=tuple)

    def __getitem__(self, object_id: int) -> ObjectResult:
        """Return the result of ``object_id``; KeyError if it is not tracked."""
        for result in self.objects:
            if result.object_id == object_id:
                return result
        raise KeyError(object_id)
