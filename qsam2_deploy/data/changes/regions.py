"""Images on which random rectangles are the objects.

A model that starts from random weights learns to mask what looks like an object, wherever the box
is, and stays there for long. Here nothing but the box tells what to mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .._checks import require_least, require_within
from ..sample import Clip, ClipSource, Masks

_CHOICES = 11  # keeps the rectangles apart from what other sources draw from the same seed


@dataclass(frozen=True)
class RegionsConfig:
    """How rectangles are chosen.

    Attributes:
        seed: of every random choice.
        max_objects: number of rectangles in an image; they may overlap.
        min_side, max_side: of a rectangle, as a share of the image's side.

    Raises:
        InputError: a value is outside its range.
    """

    seed: int = 0
    max_objects: int = 4
    min_side: float = 0.08
    max_side: float = 0.8

    def __post_init__(self) -> None:
        require_least(self, 0, "seed")
        require_least(self, 1, "max_objects")
        require_within(self, 0.01, 1.0, "min_side", "max_side")
        if self.min_side > self.max_side:
            raise InputError(
                f"min_side must be at most max_side, but is {self.min_side:g} > {self.max_side:g}"
            )


class Regions:
    """A ``ClipSource`` of single images of another source, with rectangles for masks."""

    def __init__(self, images: ClipSource, config: RegionsConfig | None = None) -> None:
        """Take images from ``images``."""
        self.config = config or RegionsConfig()
        self._images = images

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return image ``index`` as a clip of one frame of ``size`` x ``size`` pixels.

        Raises:
            InputError: more than one frame is asked for; a rectangle of an image has no motion.
        """
        if frames != 1:
            raise InputError(
                f"regions are images, but clips of {frames} frames are asked for; use them in "
                "stages with frames: 1"
            )
        image = self._images.clip(index, frames=1, size=size)
        rng = np.random.default_rng((self.config.seed, _CHOICES, index))
        masks = np.stack(
            [random_rectangle(rng, self.config, size) for _ in range(self.config.max_objects)]
        )
        return Clip(image.frames, masks[None], f"regions of {image.name}")


def random_rectangle(rng: np.random.Generator, config: RegionsConfig, size: int) -> Masks:
    """Return one mask [size, size]; sides are drawn evenly on a logarithmic scale."""
    low, high = np.log(config.min_side), np.log(config.max_side)
    width, height = np.maximum(np.exp(rng.uniform(low, high, 2)) * size, 1).astype(int)
    x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    mask = np.zeros((size, size), np.bool_)
    mask[y : y + height, x : x + width] = True
    return mask
