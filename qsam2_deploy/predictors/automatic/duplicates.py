"""Of masks whose boxes overlap much, the best one (non-maximum suppression)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def best_of_overlapping(
    boxes: FloatArray, scores: FloatArray, threshold: float
) -> npt.NDArray[np.intp]:
    """Return which boxes are kept, best first.

    From the best to the worst, a box is kept unless its IoU with a better one that was kept is
    above ``threshold``. Of equal scores the first comes first. The area of a box is
    ``(x2 - x1) (y2 - y1)``; two boxes without an area have no IoU and are both kept (torchvision
    ``nms``, in float32 as there).

    Args:
        boxes: float32 ``[N, 4]``, (x1, y1, x2, y2).
        scores: float32 ``[N]``.
        threshold: from 0 to 1.

    Returns:
        Numbers of boxes ``[K]``.
    """
    order = np.argsort(-scores, kind="stable")
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    kept = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(best)
        overlap = _ious(boxes[best], areas[best], boxes[others], areas[others])
        order = others[~(overlap > threshold)]
    return np.asarray(kept, np.intp)


def _ious(
    box: FloatArray, area: np.float32, boxes: FloatArray, areas: FloatArray
) -> npt.NDArray[np.float64]:
    """Return the IoU of one box with others, rounded to float32; NaN where it is 0 / 0."""
    lower = np.maximum(box[:2], boxes[:, :2])
    upper = np.minimum(box[2:], boxes[:, 2:])
    sides = np.maximum(upper - lower, np.float32(0))
    inner = sides[:, 0] * sides[:, 1]
    with np.errstate(invalid="ignore"):
        # Compared with the threshold in double precision, as torchvision does.
        return np.asarray(inner / (area + areas - inner), np.float64)
