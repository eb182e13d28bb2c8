"""Screens: things that pass in front of an object, hide it for some frames and uncover it again.

A model has to learn from them to say that an object is absent, to keep its memory of it, and to
find it when it is back. Chance crossings are too rare and too short for that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..affine import similarity
from . import shapes
from .scene import Body
from .skins import Wardrobe

MIN_FRAMES = 8  # a shorter clip has no time to hide something and to show it again

_STAYS_HIDDEN = 0.15  # share of objects that do not come back before the clip ends


def screen(
    rng: np.random.Generator,
    wardrobe: Wardrobe,
    centres: npt.NDArray[np.float64],
    radius: float,
) -> Body:
    """Return an occluder that sweeps over an object.

    Args:
        rng: of the choices.
        wardrobe: skins of the screen.
        centres: [T, 2] x and y of the object, where the side of the frame is 1; T >= 8.
        radius: of the object, in the same unit; the screen hides a circle of this size.
    """
    frames = len(centres)
    first = int(rng.integers(2, frames - 2))
    last = frames
    if rng.random() >= _STAYS_HIDDEN:
        last = min(first + int(rng.integers(0, frames // 2)), frames - 2)
    lead = rng.uniform(1.0, min(first, 3.0))  # frames from where they touch to where it is hidden
    time = np.arange(frames)
    away = np.minimum(time - first, 0) / lead + np.maximum(time - last, 0) / lead
    shape, half_width = shapes.screen(rng, frames)
    scale = radius * rng.uniform(1.05, 1.5)
    heading = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    reach = scale * half_width + radius
    place = centres + away[:, None] * direction * reach
    pose = similarity(np.full(frames, scale), heading, place)
    return Body(shape, {0: wardrobe.skin(rng)}, pose, occluder=True)
