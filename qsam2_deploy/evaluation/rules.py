"""Which frames of an object count: the rules of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FrameScore:
    """One object on one annotated frame.

    Attributes:
        frame_index: number of the frame.
        j: region similarity, 0 to 1.
        f: boundary accuracy, 0 to 1.
        present: the object is in the annotation.
        predicted: the result is not empty.
    """

    frame_index: int
    j: float
    f: float
    present: bool
    predicted: bool


@dataclass(frozen=True)
class Rule:
    """How a dataset is scored.

    Attributes:
        name: for the report.
        description: for the report, one sentence.
        select: from the scores of one object on its annotated frames, in order, those that count.
        exclusive: each pixel belongs to one object at most.
        still: images, not videos.
    """

    name: str
    description: str
    select: Callable[[Sequence[FrameScore]], Sequence[FrameScore]]
    exclusive: bool = False
    still: bool = False


def _inner(scores: Sequence[FrameScore]) -> Sequence[FrameScore]:
    return scores[1:-1]


def _inner_since_seen(scores: Sequence[FrameScore]) -> Sequence[FrameScore]:
    """Drop the first and the last frame, then those before the object was seen by anyone.

    An object that is in none of the annotations left does not count at all.
    """
    inner = scores[1:-1]
    if not any(score.present for score in inner):
        return ()
    seen = next(i for i, score in enumerate(inner) if score.present or score.predicted)
    return inner[seen:]


DAVIS = Rule(
    "davis",
    "DAVIS semi-supervised: the first and last frame are left out, mean over frames per object, "
    "then over objects.",
    _inner,
    exclusive=True,
)
"""davis2017-evaluation, ``--task semi-supervised``; with one object per video also DAVIS 2016."""

SA_V = Rule(
    "sa-v",
    "SA-V: an object's first and last annotated frames are left out, and those before it appears; "
    "mean over frames per object, then over objects.",
    _inner_since_seen,
)
"""``sav_dataset/sav_evaluator.py`` of the sam2 repository."""

IMAGES = Rule(
    "images", "Images: mean over objects; J is the intersection over union.", tuple, still=True
)
"""Every object of every image counts alike (mIoU)."""
