"""Shapes that change over time, in their own coordinates with a radius of about 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..changes.affine import Affine, compose, similarity

Contour = npt.NDArray[np.float64]  # [T, P, 2]


@dataclass(frozen=True)
class Piece:
    """One rigid or elastic piece of a shape.

    Attributes:
        contours: outlines in the coordinates of the piece; where they overlap evenly is a hole.
        pose: [T, 2, 3] map to the coordinates of the shape.
        material: pieces of the same number look alike.
        extent: the skin covers -extent .. extent of the coordinates of the piece.
    """

    contours: tuple[Contour, ...]
    pose: Affine
    material: int = 0
    extent: float = 1.25


Shape = tuple[Piece, ...]


def still(frames: int) -> Affine:
    """Return [T, 2, 3] maps that change nothing."""
    return similarity(np.ones(frames), 0.0, np.zeros(2))


def _circle(points: int) -> npt.NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, points, endpoint=False)


def _polar(radius: npt.NDArray[np.float64], angle: npt.NDArray[np.float64]) -> Contour:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def blob(rng: np.random.Generator, frames: int) -> Shape:
    """Return a round shape whose outline is a Fourier series with turning phases."""
    count = int(rng.integers(2, 6))
    order = np.arange(2, 2 + count)
    amplitude = rng.normal(0, 0.35, count) / order**0.7
    phase = rng.uniform(0, 2 * np.pi, count)
    rate = rng.normal(0, rng.choice([0.0, 0.15, 0.35]), count)
    angle = _circle(72)
    turned = order[:, None] * angle + phase[:, None]
    waves = turned + (np.arange(frames)[:, None] * rate)[..., None]
    radius = np.clip(1 + np.einsum("k,tkp->tp", amplitude, np.cos(waves)), 0.25, 1.8)
    contour = _polar(radius, angle) * np.array([1.0, rng.uniform(0.45, 1.0)])
    return (Piece((contour,), still(frames), extent=1.6),)


def _corners(rng: np.random.Generator) -> Contour:
    """Outline [P, 2] of a random stiff thing: polygon, box, rounded box, star or crescent."""
    kind = rng.choice(5, p=[0.25, 0.25, 0.25, 0.15, 0.1])
    if kind == 0:
        count = int(rng.integers(3, 9))
        return _polar(rng.uniform(0.6, 1.1, count), np.sort(rng.uniform(0, 2 * np.pi, count)))
    if kind == 1:
        high, lean = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.5)
        return np.array([[-1 + lean, -high], [1 - lean, -high], [1, high], [-1, high]])
    if kind == 2:  # superellipse
        angle, power = _circle(48), rng.uniform(0.3, 1.2)
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = np.abs(cos) ** power * np.sign(cos), np.abs(sin) ** power * np.sign(sin)
        return np.stack([x, rng.uniform(0.35, 1.0) * y], -1)
    if kind == 3:
        count = 2 * int(rng.integers(4, 8))
        return _polar(np.where(np.arange(count) % 2, rng.uniform(0.4, 0.7), 1.1), _circle(count))
    angle = np.linspace(0, np.pi, 24)
    inner = np.stack([np.cos(angle), rng.uniform(0.2, 0.6) * np.sin(angle)], -1)
    outline = np.concatenate([_polar(np.ones(24), angle), inner[::-1]])
    return np.asarray(outline - np.array([0.0, 0.4]))


def stiff(rng: np.random.Generator, frames: int) -> Shape:
    """Return a rigid shape with corners."""
    corners = _corners(rng)
    return (Piece((np.broadcast_to(corners, (frames, *corners.shape)),), still(frames)),)


def ring(rng: np.random.Generator, frames: int) -> Shape:
    """Return a ring or a frame: a shape with a hole."""
    outer = _corners(rng) if rng.random() < 0.3 else _polar(np.ones(40), _circle(40))
    outer = outer * np.array([1.0, rng.uniform(0.5, 1.0)])
    both = (outer, outer * rng.uniform(0.45, 0.75))
    rings = tuple(np.broadcast_to(c, (frames, *c.shape)) for c in both)
    return (Piece(rings, still(frames)),)


def worm(rng: np.random.Generator, frames: int) -> Shape:
    """Return a long shape along which a wave travels."""
    along = np.linspace(-1, 1, 24)
    time = np.arange(frames)[:, None]
    amplitude, waves = rng.uniform(0.05, 0.4), rng.uniform(1.0, 4.0)
    phase = waves * along + rng.normal(0, 0.5) * time + rng.uniform(0, 2 * np.pi)
    spine = np.stack([np.broadcast_to(along, phase.shape), amplitude * np.sin(phase)], -1)
    slope = amplitude * waves * np.cos(phase)
    normal = np.stack([-slope, np.ones_like(slope)], -1) / np.hypot(slope, 1)[..., None]
    half = rng.uniform(0.06, 0.25) * (1 - 0.8 * np.abs(along) ** rng.uniform(2, 8))
    sides = (spine + normal * half[:, None], spine - normal * half[:, None])
    contour = np.concatenate([sides[0], sides[1][:, ::-1]], 1)
    return (Piece((contour,), still(frames)),)


def _limb(
    rng: np.random.Generator, frames: int, root: npt.NDArray[np.float64], heading: float
) -> Piece:
    """A tapered limb that swings about its root, which lies inside the body."""
    length, width = rng.uniform(0.45, 1.0), rng.uniform(0.08, 0.22)
    outline = np.array(
        [[-0.2, 1.0], [-0.2, -1.0], [1.0, -0.8], [1.1, 0.0], [1.0, 0.8]]
    ) * np.array([length, width])  # fmt: skip
    swing, rate = rng.uniform(0, 0.7), rng.uniform(0.2, 0.9)
    time = np.arange(frames)
    angle = heading + swing * np.sin(rate * time + rng.uniform(0, 2 * np.pi))
    contour = np.broadcast_to(outline, (frames, *outline.shape))
    return Piece((contour,), similarity(1.0, angle, np.broadcast_to(root, (frames, 2))))


def creature(rng: np.random.Generator, frames: int) -> Shape:
    """Return a body with limbs that swing, and often a head."""
    high, angle = rng.uniform(0.4, 0.8), _circle(40)
    body = _polar(np.full(40, 0.6), angle) * np.array([1.0, high])
    pieces = [Piece((np.broadcast_to(body, (frames, 40, 2)),), still(frames))]
    limb_material, head_material = (int(v) for v in rng.choice([0, 0, 1], 2))
    for _ in range(int(rng.integers(2, 6))):
        heading = rng.uniform(0, 2 * np.pi)
        root = 0.5 * np.array([np.cos(heading), high * np.sin(heading)])
        limb = _limb(rng, frames, root, heading)
        pieces.insert(int(rng.integers(2)) * len(pieces), replace(limb, material=limb_material))
    if rng.random() < 0.6:
        pieces.append(_head(rng, frames, high, 2 * head_material))
    return tuple(pieces)


def _head(rng: np.random.Generator, frames: int, high: float, material: int) -> Piece:
    heading, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.35)
    place = 0.7 * np.array([np.cos(heading), high * np.sin(heading)])
    nod = rng.normal(0, 0.05) * np.sin(rng.uniform(0.2, 1.0) * np.arange(frames))
    contour = _polar(np.ones(24), _circle(24)) * np.array([1.0, rng.uniform(0.7, 1.0)])
    shift = place + nod[:, None]
    pose = similarity(size, rng.uniform(0, 2 * np.pi), shift)
    return Piece((np.broadcast_to(contour, (frames, 24, 2)),), pose, material)


def _placed(shape: Shape, pose: Affine, material: int) -> Shape:
    """``shape`` moved by ``pose`` [T, 2, 3], with its materials counted from ``material``."""
    return tuple(
        replace(p, pose=compose(pose, p.pose), material=p.material + material) for p in shape
    )


def stack(rng: np.random.Generator, frames: int) -> Shape:
    """Return two or three shapes that overlap, differ in looks and move as one."""
    pieces: Shape = ()
    time, place = np.arange(frames), np.zeros(2)
    for number in range(int(rng.integers(2, 4))):
        part = (blob if rng.random() < 0.6 else stiff)(rng, frames)
        size = rng.uniform(0.35, 0.75)
        sway = rng.normal(0, 0.06) * np.sin(rng.uniform(0.2, 0.8) * time)
        shift = place + sway[:, None] * rng.normal(0, 1, 2)
        pose = similarity(size, rng.uniform(0, 2 * np.pi) + sway, shift)
        pieces += _placed(part, pose, 4 * number)
        heading = rng.uniform(0, 2 * np.pi)
        place = place + size * 0.7 * np.array([np.cos(heading), np.sin(heading)])
    return pieces


def rider(rng: np.random.Generator, frames: int) -> Shape:
    """Return a creature or a thing that carries another one."""
    time = np.arange(frames)
    bob = rng.uniform(0, 0.08) * np.sin(rng.uniform(0.4, 1.2) * time + rng.uniform(0, 6))
    below = (creature if rng.random() < 0.6 else stiff)(rng, frames)
    above = (creature if rng.random() < 0.7 else blob)(rng, frames)
    carrier = _placed(below, similarity(np.full(frames, 0.75), 0.0, np.array([0.0, 0.3])), 4)
    seat = np.stack([np.full(frames, rng.uniform(-0.2, 0.2)), bob - 0.4], -1)
    load = _placed(above, similarity(rng.uniform(0.4, 0.6), rng.normal(0, 0.3) + bob, seat), 0)
    return carrier + load if rng.random() < 0.5 else load + carrier


def bar(rng: np.random.Generator, frames: int) -> Shape:
    """Return a long bar, as of a pole or a fence post."""
    outline = np.array([[-0.2, -4.0], [0.2, -4.0], [0.2, 4.0], [-0.2, 4.0]])
    outline *= np.array([rng.uniform(0.4, 1.3), 1.0])
    return (Piece((np.broadcast_to(outline, (frames, 4, 2)),), still(frames), extent=1.0),)


def screen(rng: np.random.Generator, frames: int) -> tuple[Shape, float]:
    """Return a shape without holes that covers the unit circle, and its half width along x."""
    if rng.random() < 0.5:
        wide, high = rng.uniform(1.0, 1.5), rng.uniform(1.0, 4.0)
        outline = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]])
    else:
        angle = _circle(48)
        ripple = rng.uniform(0, 0.2) * (1 + np.cos(rng.integers(2, 6) * angle))
        outline = _polar(1.0 + ripple, angle)
        wide = float(np.abs(outline[:, 0]).max())
    extent = max(1.25, float(np.abs(outline).max()))
    contour = np.broadcast_to(outline, (frames, *outline.shape))
    return (Piece((contour,), still(frames), extent=extent),), float(wide)


def wall(
    rng: np.random.Generator, frames: int, half_length: float, half_width: float
) -> tuple[Shape, float]:
    """Return a shape without holes that covers a box, and its own half length along x.

    The box spans -half_length .. half_length along x and -half_width .. half_width along y.
    """
    if rng.random() < 0.5:
        long, wide = half_length * rng.uniform(1.0, 1.2), half_width * rng.uniform(1.0, 3.0)
        outline = np.array([[-long, -wide], [long, -wide], [long, wide], [-long, wide]])
    else:
        angle, power = _circle(64), 0.25  # of a superellipse that is nearly a box
        cos, sin = np.cos(angle), np.sin(angle)
        box = np.stack([_power(cos, power), _power(sin, power)], -1) * 2 ** (0.5 * power)
        ripple = 1 + rng.uniform(0, 0.1) * (1 + np.cos(rng.integers(2, 6) * angle))
        outline = box * ripple[:, None] * np.array([half_length, half_width])
    long = float(np.abs(outline[:, 0]).max())
    contour = np.broadcast_to(outline, (frames, *outline.shape))
    return (Piece((contour,), still(frames), extent=float(np.abs(outline).max())),), long


def _power(x: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """``|x| ** power`` with the sign of ``x``."""
    return np.asarray(np.sign(x) * np.abs(x) ** power)


_MAKERS = (blob, stiff, creature, rider, stack, worm, ring)
_SHARES = (0.36, 0.16, 0.18, 0.10, 0.12, 0.04, 0.04)


def random_shape(rng: np.random.Generator, frames: int) -> Shape:
    """Return any shape but a bar."""
    return _MAKERS[int(rng.choice(len(_MAKERS), p=_SHARES))](rng, frames)


def easy_shape(rng: np.random.Generator, frames: int) -> Shape:
    """Return a shape of one piece without a hole."""
    return (blob if rng.random() < 0.7 else stiff)(rng, frames)
