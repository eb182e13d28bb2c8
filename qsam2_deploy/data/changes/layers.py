"""Painting small pictures with a coverage onto a frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from ..sample import Frames, Masks

Coverage = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A region of whole pixels: left and top edge, right and bottom edge (exclusive)."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.x0 >= self.x1 or self.y0 >= self.y1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in an image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def box_between(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], size: tuple[int, int], pad: int = 0
) -> Box:
    """Return the pixels within ``pad`` of the span from ``low`` to ``high``, x and y, [2] each.

    It is cut to the image, whose height and width are ``size``.
    """
    return Box(
        max(math.floor(low[0]) - pad, 0),
        max(math.floor(low[1]) - pad, 0),
        min(math.ceil(high[0]) + pad, size[1]),
        min(math.ceil(high[1]) + pad, size[0]),
    )


def paint(frame: Frames, box: Box, colour: Frames, coverage: Coverage) -> None:
    """Blend ``colour`` [h, w, 3] over ``frame`` in ``box``, by ``coverage`` [h, w] of 0 .. 255."""
    cv2 = opencv()
    region = frame[box.slices]
    weight = cv2.merge([coverage, coverage, coverage])
    front = cv2.multiply(colour, weight, scale=1 / 255)
    back = cv2.multiply(region, cv2.bitwise_not(weight), scale=1 / 255)
    cv2.add(front, back, dst=back)
    region[:] = back


def darken(frame: Frames, box: Box, coverage: Coverage, strength: float) -> None:
    """Take the share ``strength`` of the light away in ``box``, by ``coverage`` [h, w]."""
    cv2 = opencv()
    light = cv2.convertScaleAbs(coverage, alpha=-strength, beta=0.0)
    light = cv2.bitwise_not(light)
    region = frame[box.slices]
    region[:] = cv2.multiply(region, cv2.merge([light, light, light]), scale=1 / 255)


def covered(coverage: Coverage) -> Masks:
    """Return the pixels [h, w] that belong to a layer: those that it covers by half or more."""
    return coverage > 127
