"""What the fish of the demo's clip swims through: water, rocks, a sandy floor and plants.

Positions are those of the world, whose unit is the frame's width; y points down.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qsam2_deploy.data.changes.affine import similarity
from qsam2_deploy.data.generated.scene import MARGIN, Body
from qsam2_deploy.data.generated.shapes import Piece
from qsam2_deploy.data.generated.skins import Skin
from qsam2_deploy.data.generated.textures import noise

Field = npt.NDArray[np.float32]

FLOOR = 0.665  # where the sand begins
_SIDE = 1024  # pixels of the backdrop
_SKIN = 512  # pixels of other pictures


def backdrop(rng: np.random.Generator) -> Skin:
    """Return the water with shafts of light, two far ridges and the sand."""
    line = np.linspace(-MARGIN, 1 + MARGIN, _SIDE, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    depth = np.clip((y - 0.18) / 0.55, 0, 1)
    picture = _ramp(depth, [[150, 226, 226], [62, 168, 190], [22, 100, 142], [12, 66, 108]])
    picture = _add(picture, [70, 80, 66], _shafts(rng, x, y))
    for height, colour, rough in ((0.55, [34, 112, 146], 0.10), (0.615, [22, 82, 112], 0.13)):
        picture = _ridge(rng, picture, y, height, colour, rough)
    return Skin(np.clip(_sand(rng, picture, x, y), 0, 255).astype(np.uint8))


def pillar(rng: np.random.Generator, pose: npt.NDArray[np.float64]) -> Body:
    """Return a column of overgrown rock, wider at its foot, at ``pose`` [T, 2, 3]."""
    frames = len(pose)
    v = np.linspace(-1.0, 1.0, 60)
    edges = [_wobble(rng, 60, 0.022) + 0.31 + 0.04 * v**2 + 0.10 * np.clip(v - 0.2, 0, 1) ** 2
             for _ in range(2)]  # fmt: skip
    outline = np.concatenate([np.stack([-edges[0], v], -1), np.stack([edges[1], v], -1)[::-1]])
    piece = Piece((np.broadcast_to(outline, (frames, *outline.shape)),), _still(frames))
    return Body((piece,), {0: Skin(_rock(rng))}, pose, occluder=True)


def boulder(rng: np.random.Generator, pose: npt.NDArray[np.float64], colour: npt.ArrayLike) -> Body:
    """Return a flat round rock at ``pose`` [T, 2, 3]."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = 1.0 + _wobble(rng, 64, 0.06) * np.sin(angle / 2)
    outline = np.stack([radius * np.cos(angle), 0.62 * radius * np.sin(angle)], -1)
    piece = Piece((np.broadcast_to(outline, (len(pose), 64, 2)),), _still(len(pose)))
    return Body((piece,), {0: Skin(_stone(rng, colour))}, pose)


def weed(
    rng: np.random.Generator,
    frames: int,
    root: tuple[float, float],
    height: float,
    colour: npt.ArrayLike,
    blades: int = 5,
) -> Body:
    """Return a plant of swaying blades that grows at ``root``, in front of all else."""
    pieces = tuple(_blade(rng, frames, rng.normal(0, 0.10), rng.uniform(0.6, 1.0))
                   for _ in range(blades))  # fmt: skip
    pose = similarity(np.full(frames, height), 0.0, np.broadcast_to(root, (frames, 2)))
    return Body(pieces, {0: Skin(_leaf(rng, colour))}, pose, occluder=True)


def coral(
    rng: np.random.Generator, root: tuple[float, float], size: float, colour: npt.ArrayLike
) -> Body:
    """Return a still coral of branches that fork, growing at ``root``."""
    pieces: list[Piece] = []
    _branch(rng, pieces, np.zeros(2), -np.pi / 2, 0.45, 0.13, 4)
    pose = similarity(np.full(1, size), 0.0, np.array([root]))
    return Body(tuple(pieces), {0: Skin(_stone(rng, colour))}, pose)


def _still(frames: int) -> npt.NDArray[np.float64]:
    return similarity(np.ones(frames), 0.0, np.zeros(2))


def _wobble(rng: np.random.Generator, points: int, strength: float) -> npt.NDArray[np.float64]:
    """Return [P] rough noise: large bulges with small ones upon them."""
    place = np.linspace(0, 1, points)
    waves = [
        np.sin(2 * np.pi * (k * place + rng.random())) * rng.normal(0, 1) / k**0.7
        for k in (1, 2, 3, 5, 8, 13)
    ]
    return strength * np.asarray(np.sum(waves, 0))


def _ramp(share: Field, colours: list[list[int]]) -> Field:
    """Colour a field 0 .. 1 with evenly spaced colours."""
    stops, table = np.linspace(0, 1, len(colours)), np.array(colours, np.float64)
    channels = [np.interp(share, stops, table[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def _add(picture: Field, colour: npt.ArrayLike, weight: Field) -> Field:
    return np.asarray(picture + np.asarray(colour) * weight[..., None], np.float32)


def _mix(picture: Field, colour: npt.ArrayLike, weight: Field) -> Field:
    return np.asarray(picture + (np.asarray(colour) - picture) * weight[..., None], np.float32)


def _shafts(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Light that falls in slanted shafts and fades with depth."""
    slant = x + 0.35 * (y - 0.2)
    wave = sum(
        rng.uniform(0.4, 1.0) * np.sin(2 * np.pi * (k * slant + rng.random()))
        for k in (1.3, 2.2, 3.7, 6.1, 9.7)
    )
    return np.asarray(np.clip(wave, 0, None) / 2.2 * np.clip(1 - (y - 0.15) / 0.5, 0, 1) ** 1.5)


def _ridge(
    rng: np.random.Generator,
    picture: Field,
    y: Field,
    height: float,
    colour: list[int],
    rough: float,
) -> Field:
    """Far rocks: a silhouette in the colour of the water, softer where it is farther."""
    profile = height + _wobble(rng, y.shape[1], rough / 3)
    fine = 0.02 * (noise(rng, 16, y.shape[0]) - 0.5)
    weight = np.clip((y + fine - profile[None, :]) / 0.012, 0, 1)
    shade = noise(rng, 12, y.shape[0])[..., None]
    return _mix(picture, np.array(colour) * (0.82 + 0.36 * shade), np.asarray(0.9 * weight))


def _sand(rng: np.random.Generator, picture: Field, x: Field, y: Field) -> Field:
    """The floor: ripples that get wider towards the viewer, and patches of light."""
    edge = FLOOR + 0.008 * np.sin(9 * x + 1) + 0.005 * np.sin(23 * x)
    near = np.clip((y - edge) / 0.14, 0, 1)
    bend = noise(rng, 5, x.shape[0]) - 0.5
    ripples = np.sin(2 * np.pi * (7 * np.log(near + 0.16) + 2.2 * bend + 0.6 * x))
    light = 0.88 + 0.10 * ripples + 0.30 * (noise(rng, 24, x.shape[0]) - 0.5)
    sand = _ramp(near, [[64, 132, 146], [142, 168, 150], [206, 196, 156]]) * light[..., None]
    return _mix(picture, sand, np.clip((y - edge) / 0.008, 0, 1))


def _skin_axes() -> tuple[Field, Field]:
    line = np.linspace(-1, 1, _SKIN, dtype=np.float32)
    return line[None, :] + 0 * line[:, None], line[:, None] + 0 * line[None, :]


def _rock(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Rock with cracks, lichen and pink crusts, round by its shading."""
    x, y = _skin_axes()
    rough, cloud, fine = (noise(rng, cells, _SKIN) for cells in (10, 5, 40))
    picture = _ramp(rough, [[40, 40, 54], [86, 80, 86], [150, 134, 124]])
    picture = _mix(picture, [84, 104, 52], 0.75 * np.clip((cloud - 0.5) / 0.12, 0, 1))
    crust = np.clip((noise(rng, 7, _SKIN) - 0.64) / 0.05, 0, 1)
    picture = _mix(picture, [176, 84, 112], 0.8 * crust)
    cracks = np.exp(-(((noise(rng, 6, _SKIN) - 0.5) / 0.012) ** 2))
    light = 0.72 + 0.55 * fine - 0.45 * cracks
    light *= 1.08 - 1.35 * (1.12 * x + 0.10) ** 2 * 4  # a cylinder, lit from the left
    light *= 1.0 - 0.28 * y
    return _encoded(picture * np.clip(light, 0.16, 1.6)[..., None])


def _stone(rng: np.random.Generator, colour: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Speckled stone of one colour, lit from above."""
    _, y = _skin_axes()
    light = 0.7 + 0.5 * noise(rng, 12, _SKIN) + 0.25 * (noise(rng, 48, _SKIN) - 0.5) - 0.42 * y
    return _encoded(np.asarray(colour) * np.clip(light, 0.2, 1.5)[..., None])


def _leaf(rng: np.random.Generator, colour: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """A blade with lengthwise veins, lighter towards its tip."""
    x, y = _skin_axes()
    light = 0.85 + 0.16 * np.sin(60 * x) + 0.35 * (noise(rng, 8, _SKIN) - 0.5) - 0.35 * y
    return _encoded(np.asarray(colour) * np.clip(light, 0.2, 1.6)[..., None])


def _encoded(picture: Field) -> npt.NDArray[np.uint8]:
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _blade(rng: np.random.Generator, frames: int, lean: float, length: float) -> Piece:
    """One blade [T, P, 2] from the root upwards, along which a slow wave travels."""
    along = np.linspace(0, 1, 22)
    time = np.arange(frames)[:, None]
    wave = np.sin(3.2 * along - 0.13 * time + rng.uniform(0, 6)) * along
    spine = rng.normal(0, 0.10) + lean * along * 1.6 + rng.uniform(0.05, 0.10) * wave
    half = 0.045 * np.sin(np.pi * np.clip(0.12 + 0.88 * along, 0, 1)) ** 0.6 + 0.004
    up = np.broadcast_to(-length * along, spine.shape)
    sides = [np.stack([spine + side * half, up], -1) for side in (-1, 1)]
    contour = np.concatenate([sides[0], sides[1][:, ::-1]], 1)
    return Piece((contour,), _still(frames), extent=1.1)


def _branch(
    rng: np.random.Generator,
    pieces: list[Piece],
    root: npt.NDArray[np.float64],
    heading: float,
    length: float,
    width: float,
    depth: int,
) -> None:
    """Add a branch to ``pieces``, and those that grow out of its end."""
    tip = root + length * np.array([np.cos(heading), np.sin(heading)])
    across = np.array([-np.sin(heading), np.cos(heading)])
    round_end = np.linspace(np.pi / 2, -np.pi / 2, 9)
    end = [tip + 0.8 * width * (np.sin(a) * across + np.cos(a) * (tip - root) / length)
           for a in round_end]  # fmt: skip
    outline = np.array([root + width * across, *end, root - width * across])
    pieces.append(Piece((outline[None],), _still(1), extent=1.4))
    if depth > 1:
        for turn in rng.permutation([-0.55, 0.0, 0.55])[: rng.integers(2, 4)]:
            angle = heading + turn + rng.normal(0, 0.15)
            _branch(
                rng, pieces, tip, angle, length * rng.uniform(0.6, 0.85), 0.72 * width, depth - 1
            )
