"""What goes into and comes out of the segmenters: plain dataclasses of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependencyError

if TYPE_CHECKING:
    from supervision import Detections

_ENLARGE = "_enlarge"
"""Entry of a lazy result that makes its logits."""


@dataclass(frozen=True)
class Prompt:
    """What the user says about one object on one frame, in pixels of that frame.

    Give points (with labels), a box (alone or with points), or a mask (alone).

    Attributes:
        object_id: the user's number for the object, a non-negative integer; one of numpy becomes
            one of Python.
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

    def __post_init__(self) -> None:
        # Those of numpy, as np.unique gives them, cannot be written to JSON.
        if hasattr(self.object_id, "__index__"):
            object.__setattr__(self, "object_id", int(self.object_id))


@dataclass(frozen=True)
class ObjectResult:
    """One object on one frame.

    In the results of a segmenter, the mask is enlarged to the frame when ``logits`` or ``mask`` is
    first read, and then kept: who reads neither, or those of one object, pays for no more.

    Attributes:
        object_id: the user's number for the object.
        mask: bool ``[height, width]``: logits above 0.
        logits: float32 ``[height, width]`` at frame resolution.
        score: object score logit; above 0 the model believes that the object is visible.
        visible: ``score > 0``.
        low_res_logits: float32 ``[S / 4, S / 4]``, read-only: the model's own logits, before masks
            that overlap are cut; None in a result that was made without them.
    """

    object_id: int
    mask: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]
    score: float
    visible: bool
    low_res_logits: npt.NDArray[np.float32] | None = None

    @classmethod
    def lazy(
        cls,
        object_id: int,
        low_res_logits: npt.NDArray[np.float32],
        score: float,
        enlarge: Callable[[], npt.NDArray[np.float32]],
    ) -> ObjectResult:
        """Return a result whose ``logits`` and ``mask`` are made when they are first read.

        Args:
            object_id: the user's number for the object.
            low_res_logits: float32 ``[S / 4, S / 4]``; nobody may change them from now on.
            score: object score logit.
            enlarge: returns ``logits``. Two threads that read them first at the same time may both
                call it, and get the same array.
        """
        shown = low_res_logits.view()
        shown.flags.writeable = False
        result = cls.__new__(cls)
        result.__dict__.update(
            object_id=object_id, score=score, visible=score > 0, low_res_logits=shown
        )
        result.__dict__[_ENLARGE] = enlarge
        return result

    def __getattr__(self, name: str) -> Any:
        """Make a field of a lazy result that has not been read yet."""
        values = self.__dict__
        if name == "mask" and _ENLARGE in values:
            return values.setdefault("mask", self.logits > 0)
        if name == "logits" and _ENLARGE in values:
            return values.setdefault("logits", values[_ENLARGE]())
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def probability(self) -> float:
        """Probability that the object is visible, from 0 to 1: the sigmoid of ``score``."""
        return float(1 / (1 + np.exp(-np.clip(self.score, -80, 80))))

    def __getstate__(self) -> dict[str, Any]:
        """Return all fields, made or not, for copies and pickles."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


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

    def to_supervision(self) -> Detections:
        """Return the visible objects as ``supervision.Detections``.

        ``mask`` is bool ``[n, height, width]``, ``xyxy`` float32 ``[n, 4]`` with the last pixel as
        ``x2``, ``y2``, as supervision has boxes of masks, ``confidence`` the probability that the
        object is visible, ``tracker_id`` its number, and ``class_id`` 0. Objects without a pixel
        are left out.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError(
                "supervision", "", "to_supervision", hint="run: pip install supervision"
            ) from error
        items = [item for item in self.objects if item.mask.any()]
        if not items:
            return supervision.Detections.empty()
        masks = np.stack([item.mask for item in items])
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            confidence=np.array([item.probability for item in items], np.float32),
            class_id=np.zeros(len(items), int),
            tracker_id=np.array([item.object_id for item in items]),
        )
