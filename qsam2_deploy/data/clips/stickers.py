"""Stickers: real objects, cut out with their masks, on a path across another clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from ..cache import CachedFrame, Cutout, object_centres
from ..changes.affine import Affine, apply, compose, magnification, similarity, stretch
from ..changes.colour import ColourMap
from ..changes.layers import Box, Coverage, box_between, covered, paint
from ..changes.resample import warp
from ..generated import motion
from ..sample import Frames

Labels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]

# An edge as soft as that of a real photo, moved a third of a pixel inwards: the outermost pixels
# of an object hold colours of what was behind it.
_INWARDS = 80
_EDGE = np.clip((np.arange(256.0) - _INWARDS) * 255 / (255 - _INWARDS), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Sticker:
    """An object to paste: where it comes from in each frame, where it goes, its colours.

    Attributes:
        frames: [T] frames that it is cut from.
        number: id of the object in them.
        matrices: [T, 2, 3] from those frames to the output, pixels.
        colours: recolouring, or None.
    """

    frames: list[CachedFrame]
    number: int
    matrices: Affine
    colours: ColourMap | None = None

    @property
    def radius(self) -> float:
        """Size in the first frame, pixels of the output."""
        scale = magnification(self.matrices[0])
        return float(scale) * self.frames[0].objects[self.number].radius

    def centres(self) -> Vector:
        """Return where the object is in each frame: [T, 2] x and y, pixels of the output."""
        return apply(self.matrices, object_centres(self.frames, self.number)[:, None])[:, 0]

    def paste(self, frame: Frames, labels: Labels, time: int, number: int) -> None:
        """Paint the object on ``frame`` and write ``number`` to ``labels`` where it is seen."""
        cutout = self.frames[time].objects.get(self.number)
        if cutout is None:
            return
        matrix = compose(self.matrices[time], stretch(1, 1, cutout.x0, cutout.y0))
        height, width = cutout.coverage.shape
        corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
        placed = apply(matrix, corners)
        box = box_between(placed.min(0), placed.max(0), (frame.shape[0], frame.shape[1]))
        if box.empty:
            return
        colours, coverage = _pixels(self.frames[time].image, cutout, matrix, box)
        if self.colours is not None:
            colours = self.colours.apply(colours)
        paint(frame, box, colours, coverage)
        labels[box.slices][covered(coverage)] = number


def _pixels(image: Frames, cutout: Cutout, matrix: Affine, box: Box) -> tuple[Frames, Coverage]:
    """Colours [h, w, 3] and coverage [h, w] in ``box``; ``matrix`` maps the cutout to pixels."""
    cv2 = opencv()
    height, width = cutout.coverage.shape
    colours = image[cutout.y0 : cutout.y0 + height, cutout.x0 : cutout.x0 + width]
    matrix = compose(stretch(1, 1, -box.x0, -box.y0), matrix)
    coverage = warp(cutout.coverage, matrix, box.size)
    coverage = cv2.blur(coverage, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return warp(colours, matrix, box.size, None), cv2.LUT(coverage, _EDGE)


def random_placement(
    rng: np.random.Generator, window: list[CachedFrame], number: int, radius: float, size: int
) -> Affine:
    """Return [T, 2, 3] maps from the frames of an object to the output.

    The object keeps its motion through its own frames, or half of it, or none, and gets another
    one. ``radius`` is its size in the first frame as a share of the output's side ``size``.
    """
    centres = object_centres(window, number)
    frames, time = len(window), np.arange(len(window))
    scale = radius / window[0].objects[number].radius * np.exp(rng.normal(0, 0.012) * time)
    turn = rng.normal(0, 0.1) + rng.normal(0, rng.choice([0.0, 0.02, 0.06])) * time
    mirrored = rng.choice([-1.0, 1.0]) * np.exp(rng.normal(0, 0.15))
    place = motion.path(rng, frames, radius, 1.0)
    centred = similarity(np.ones(frames), 0.0, -centres[0] - _followed(rng, centres))
    placed = similarity(scale, turn, place, np.full(frames, mirrored))
    return compose(stretch(size, size), compose(placed, centred))


def _followed(rng: np.random.Generator, centres: Vector) -> Vector:
    """The part [T, 2] of an object's own motion that is taken out."""
    return np.asarray((centres - centres[0]) * rng.choice([0.0, 0.5, 1.0]))
