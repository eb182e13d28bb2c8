"""Things that hide an object for some frames: screens pass over it, walls stand in its way.

A model has to learn from them to say that an object is absent, to keep its memory of it, and to
find it when it is back: behind a screen it is about where it went, behind a wall somewhere else.
Chance crossings are too rare and too short for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..changes.affine import similarity
from . import shapes
from .scene import Body
from .skins import Wardrobe

MIN_FRAMES = 4  # a shorter clip has no time to hide something and to show it again

_LONG = 8  # frames of a clip that shows an object twice before it is hidden

_WALLS = 0.6  # share of walls among what hides small objects
_WALL_RADIUS = 0.3  # of the largest object that a wall hides, else it would fill the frame
_STAYS_HIDDEN = 0.15  # share of objects that do not come back before the clip ends
_WALKED = 1.6  # how far an object is moved at most outside the wall, in times of its way into it

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Passage:
    """An object's way behind a wall.

    Attributes:
        wall: stands still in front of everything.
        shift: [T, 2] by which the object is moved, where the side of the frame is 1.
    """

    wall: Body
    shift: Curve


def goes_behind_wall(rng: np.random.Generator, radius: float) -> bool:
    """Draw whether an object of this radius gets a `passage`, and not a `screen`."""
    return bool(rng.random() < _WALLS and radius <= _WALL_RADIUS)


def screen(
    rng: np.random.Generator, wardrobe: Wardrobe, centres: npt.NDArray[np.float64], radius: float
) -> Body:
    """Return an occluder that sweeps over an object.

    Args:
        rng: of the choices.
        wardrobe: skins of the screen.
        centres: [T, 2] x and y of the object, where the side of the frame is 1; T >= 8.
        radius: of the object, in the same unit; the screen hides a circle of this size.
    """
    frames = len(centres)
    first, last = _hidden_frames(rng, frames)
    away = _away(rng, frames, first, last)
    shape, half_width = shapes.screen(rng, frames)
    scale = radius * rng.uniform(1.05, 1.5)
    heading = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    reach = scale * half_width + radius
    place = centres + away[:, None] * direction * reach
    pose = similarity(np.full(frames, scale), heading, place)
    return Body(shape, {0: wardrobe.skin(rng)}, pose, occluder=True)


def passage(rng: np.random.Generator, wardrobe: Wardrobe, centres: Curve, radius: float) -> Passage:
    """Return a wall and the way of an object behind it, from one end to the other.

    Arguments are those of `screen`.
    """
    time = np.arange(len(centres))
    first, last = _hidden_frames(rng, len(centres))
    entry = centres[first]
    way = rng.uniform(0.1, 0.9, 2) - entry
    length, heading = float(np.hypot(*way)), float(np.arctan2(way[1], way[0]))
    shape, half_length = shapes.wall(rng, len(centres), 0.5 * length + radius, radius)
    reach = half_length + radius - 0.5 * length
    away = np.clip(_away(rng, len(centres), first, last), -_WALKED, _WALKED)
    behind = np.clip((time - first) / max(last - first, 1), 0, 1)
    # While it is hidden, its own motion must not lead it out of the wall.
    held = entry - centres[np.clip(time, first, min(last, len(centres) - 1))]
    outside = away[:, None] * reach * np.array([np.cos(heading), np.sin(heading)])
    pose = similarity(np.ones(len(centres)), heading, entry + 0.5 * way)
    wall = Body(shape, {0: wardrobe.skin(rng)}, pose, occluder=True)
    return Passage(wall, held + behind[:, None] * way + outside)


def _hidden_frames(rng: np.random.Generator, frames: int) -> tuple[int, int]:
    """First and last frame in which the object is hidden; the last may be after the clip."""
    first = int(rng.integers(2 if frames >= _LONG else 1, frames - 2))
    if rng.random() < _STAYS_HIDDEN:
        return first, frames
    # Long absences matter: then no recent frame shows the object, and only older memories tell.
    return first, min(first + int(rng.integers(0, frames - 3)), frames - 2)


def _away(rng: np.random.Generator, frames: int, first: int, last: int) -> Curve:
    """How far they are apart: 0 while hidden, -1 and 1 where they touch before and after."""
    lead = rng.uniform(1.0, min(first, 3.0))  # frames from where they touch to where it is hidden
    time = np.arange(frames)
    return np.asarray(np.minimum(time - first, 0) / lead + np.maximum(time - last, 0) / lead)
