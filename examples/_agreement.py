"""How far two runs of ``qsam2-segment`` agree: their masks and their times."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image

Masks = npt.NDArray[np.bool_]


def read_masks(folder: Path, object_id: int = 1) -> Masks:
    """Return the masks of one object, bool ``[T, height, width]``, from a ``--masks`` folder."""
    frames = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    masks: Masks = np.stack(frames) == object_id
    return masks


def iou_per_frame(first: Masks, second: Masks) -> npt.NDArray[np.float64]:
    """Return intersection over union of each frame, ``[T]``; 1 where both masks are empty."""
    both = (first & second).sum(axis=(1, 2))
    either = (first | second).sum(axis=(1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def milliseconds_per_frame(results: Path) -> float:
    """Return the median time of tracked frames, from a ``--json`` file.

    The first frames are left out: there the engine warms up and the memory is not yet full.
    """
    frames = json.loads(results.read_text(encoding="utf-8"))["frames"]
    seconds = [float(frame["seconds"]) for frame in frames]
    return 1000.0 * median(seconds[min(7, len(seconds) - 1) :])
