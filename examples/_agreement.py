"""How far masks agree, with each other and with the truth, and how long they took."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image

from qsam2_deploy.evaluation import boundary_accuracy, region_similarity

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Percent: J of the regions, F of the boundaries."""

    j: float
    f: float

    @property
    def j_and_f(self) -> float:
        """Mean of both."""
        return (self.j + self.f) / 2


def read_masks(folder: Path, frames: int | None = None) -> Masks:
    """Return the masks of a folder with one object, bool ``[T, height, width]``.

    Args:
        folder: with one PNG per frame, 0 where the object is not.
        frames: how many of the first ones to read; default: all.
    """
    files = sorted(folder.glob("*.png"))[:frames]
    masks: Masks = np.stack([np.asarray(Image.open(file)) for file in files]) > 0
    return masks


def score(masks: Masks, truth: Masks) -> Score:
    """Return the mean over all frames but the first, whose object was shown to the model.

    Frames in which the object is hidden count: there an empty mask is right, and any other wrong.
    """
    pairs = list(zip(masks[1:], truth[1:], strict=True))
    return Score(
        100 * float(np.mean([region_similarity(mask, true) for mask, true in pairs])),
        100 * float(np.mean([boundary_accuracy(mask, true) for mask, true in pairs])),
    )


def iou_per_frame(first: Masks, second: Masks) -> list[float]:
    """Return intersection over union of each frame; 1 where both masks are empty."""
    return [region_similarity(one, other) for one, other in zip(first, second, strict=True)]


def frames_per_second(results: Path) -> float:
    """Return the rate of the model alone, at the median time of a frame, from a ``--json`` file.

    The first frames are left out: there the engine warms up and the memory is not yet full.
    """
    frames = json.loads(results.read_text(encoding="utf-8"))["frames"]
    seconds = [float(frame["seconds"]) for frame in frames]
    return 1.0 / median(seconds[min(7, len(seconds) - 1) :])
