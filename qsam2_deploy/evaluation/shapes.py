"""The click and the box that stand for a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def tight_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return ``(x1, y1, x2, y2)``, the mask's first and last column and row, in pixels.

    The corners are pixels of the mask (upstream ``sam2_utils.sample_box_points`` without noise);
    where they coincide the box is one pixel wide or high.

    Args:
        mask: bool [H, W] with at least one pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x1, y1, x2, y2 = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def centre_point(mask: Mask) -> tuple[int, int]:
    """Return ``(x, y)`` of the pixel that is farthest from the mask's outside.

    The image's border counts as outside; of several such pixels the first in reading order is
    taken (upstream ``get_next_point(method="center")``).

    Args:
        mask: bool [H, W] with at least one pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    squared = squared_distance_to_outside(part)
    y, x = np.unravel_index(int(np.argmax(squared)), squared.shape)
    return left + int(x), top + int(y)


def squared_distance_to_outside(mask: Mask) -> npt.NDArray[np.int32]:
    """Return the squared Euclidean distance of each pixel to the nearest one outside of ``mask``.

    Exact, in two passes: along columns first, then along rows over all offsets that can still
    make a distance smaller. Beyond the array everything is outside.

    Args:
        mask: bool [H, W].

    Returns:
        int32 [H, W], 0 outside of the mask.
    """
    height, width = mask.shape
    down = np.zeros((height + 2, width), np.int32)
    for y in range(1, height + 1):
        down[y] = np.where(mask[y - 1], down[y - 1] + 1, 0)
    for y in range(height, 0, -1):
        np.minimum(down[y], down[y + 1] + 1, out=down[y])
    vertical = np.zeros((height, width + 2), np.int32)
    vertical[:, 1:-1] = down[1:-1] ** 2
    best = vertical.copy()
    offset = 1
    while offset * offset < best.max():
        np.minimum(best[:, offset:], vertical[:, :-offset] + offset**2, out=best[:, offset:])
        np.minimum(best[:, :-offset], vertical[:, offset:] + offset**2, out=best[:, :-offset])
        offset += 1
    inside: npt.NDArray[np.int32] = best[:, 1:-1]
    return inside
