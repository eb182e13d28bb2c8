"""Colours of objects."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

# Distinct, bright, and legible for the colour-blind next to each other.
_OVERLAY = (
    (0, 158, 255),
    (255, 140, 0),
    (0, 200, 120),
    (240, 70, 110),
    (190, 110, 255),
    (250, 220, 40),
    (60, 220, 230),
    (255, 120, 220),
)
_GOLDEN_RATIO = 0.618033988749895


def davis_palette() -> npt.NDArray[np.uint8]:
    """Return the palette of VOC and DAVIS masks, uint8 ``[256, 3]``; entry 0 is black.

    Every third bit of the entry's number, lowest first, goes to the highest free bit of red,
    green and blue in turn (PASCAL VOC development kit, ``VOClabelcolormap``).
    """
    number = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            value = (number >> (3 * bit + channel)) & 1
            palette[:, channel] |= (value << (7 - bit)).astype(np.uint8)
    return palette


def overlay_color(object_id: int) -> tuple[int, int, int]:
    """Return the RGB colour that draws ``object_id``; neighbouring numbers differ clearly."""
    if 1 <= object_id <= len(_OVERLAY):
        return _OVERLAY[object_id - 1]
    red, green, blue = colorsys.hsv_to_rgb((object_id * _GOLDEN_RATIO) % 1.0, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
