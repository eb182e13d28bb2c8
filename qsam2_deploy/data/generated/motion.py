"""Smooth motions over T frames, in units of the frame's side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..changes.affine import Affine, about, similarity

Curve = npt.NDArray[np.float64]  # [T] or [T, D]


def smooth(rng: np.random.Generator, frames: int, dims: int = 1, persistence: float = 0.7) -> Curve:
    """Return [T, D] noise of unit variance, where neighbouring frames resemble each other."""
    steps = rng.standard_normal((frames, dims))
    fresh = np.sqrt(1 - persistence**2)
    for i in range(1, frames):
        steps[i] = persistence * steps[i - 1] + fresh * steps[i]
    return steps


def _travelled(velocity: Curve) -> Curve:
    """Positions [T, D] that start at 0, from velocities [T, D] per frame."""
    return np.concatenate([np.zeros((1, velocity.shape[1])), np.cumsum(velocity[1:], 0)])


def fold(position: Curve, low: float, high: float) -> Curve:
    """Reflect positions at ``low`` and ``high``, as a ball between two walls."""
    span = high - low
    return low + np.abs((position - low + span) % (2 * span) - span)


def _speed(rng: np.random.Generator) -> float:
    """Typical distance per frame: from nearly none to 4 % of the side."""
    return float(np.exp(rng.uniform(np.log(0.0015), np.log(0.04))))


def _direction(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _glide(rng: np.random.Generator, frames: int) -> Curve:
    speed = _speed(rng)
    wander = smooth(rng, frames, 2) * rng.uniform(0, 0.5)
    return _travelled(speed * (_direction(rng) + wander))


def _arc(rng: np.random.Generator, frames: int) -> Curve:
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.25) * np.arange(frames)
    return _travelled(_speed(rng) * np.stack([np.cos(turn), np.sin(turn)], -1))


def _sway(rng: np.random.Generator, frames: int) -> Curve:
    """There and back along a line."""
    rate, phase = rng.uniform(0.15, 0.9), rng.uniform(0, 2 * np.pi)
    swing = np.sin(rate * np.arange(frames) + phase) - np.sin(phase)
    return np.asarray(swing[:, None] * _direction(rng) * (_speed(rng) / rate))


def _hop(rng: np.random.Generator, frames: int) -> Curve:
    """Sideways, bouncing on the ground."""
    time = np.arange(frames)
    rate, phase = rng.uniform(0.2, 0.7), rng.uniform(0, np.pi)
    height = np.abs(np.sin(rate * time + phase)) * rng.uniform(0.02, 0.15)
    sideways = _speed(rng) * rng.choice([-1, 1]) * time
    return np.stack([sideways, height[0] - height], -1)


def _visit(rng: np.random.Generator, frames: int) -> Curve:
    """Out of the frame and back again within the clip."""
    swing = np.sin(np.linspace(0, rng.uniform(0.8, 1.2) * np.pi, frames))
    swing[0] = 0.0
    return swing[:, None] * _direction(rng) * rng.uniform(0.3, 0.9)


def _rest(rng: np.random.Generator, frames: int) -> Curve:
    return np.asarray(smooth(rng, frames, 2) * rng.choice([0.0, 0.001]))


_PATHS = (_glide, _arc, _sway, _hop, _visit, _rest)
_SHARES = (0.44, 0.14, 0.14, 0.1, 0.06, 0.12)


def path(rng: np.random.Generator, frames: int, radius: float, speed: float) -> Curve:
    """Return positions [T, 2] of an object of ``radius``; most turn back at or beyond an edge."""
    start = rng.uniform(0.1, 0.9, 2)
    moved = _PATHS[int(rng.choice(len(_PATHS), p=_SHARES))](rng, frames)
    position = start + speed * moved
    reach = rng.choice([0.05, -0.02, -1.3 * radius, -3.0], p=[0.25, 0.35, 0.25, 0.15])
    return fold(position, min(reach, start.min()), max(1 - reach, start.max()))


def object_pose(rng: np.random.Generator, frames: int, radius: float, speed: float) -> Affine:
    """Return [T, 2, 3] maps from a shape to the frame: path, turning, growing, tilting."""
    time = np.arange(frames)
    turn = rng.normal(0, rng.choice([0.0, 0.03, 0.1])) * time
    rock = rng.choice([0.0, 0.0, 0.15]) * np.sin(rng.uniform(0.2, 0.9) * time)
    grow = np.exp(speed * (rng.normal(0, 0.012) * time))
    tilt_rate, tilt = rng.uniform(0.05, 0.3), rng.choice([0.0, 0.0, 0.35])
    squash = 1 - speed * tilt * np.abs(np.sin(tilt_rate * time))
    heading = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.normal(0, 0.2)
    angle = heading + speed * (turn + rock)
    place = path(rng, frames, radius, speed)
    return similarity(radius * grow, angle, place, np.clip(squash, 0.3, 1.0))


def bar_pose(rng: np.random.Generator, frames: int, speed: float) -> Affine:
    """Return [T, 2, 3] maps for a bar: steep, and moving sideways if at all."""
    drift = rng.normal(0, rng.choice([0.0, 0.01, 0.03])) * speed * np.arange(frames)
    place = np.stack([rng.uniform(0.1, 0.9) + drift, np.full(frames, 0.5)], -1)
    lying = np.pi / 2 * (rng.random() < 0.2)
    return similarity(rng.uniform(0.15, 0.4), lying + rng.normal(0, 0.2), place)


def camera(rng: np.random.Generator, frames: int, speed: float) -> Affine:
    """Return [T, 2, 3] maps from the world to the frame: pan, zoom, roll and shaking hands."""
    time = np.arange(frames)
    pan = _travelled(
        rng.choice([0.0, 0.004, 0.016], p=[0.35, 0.35, 0.3])
        * (rng.normal(0, 1, 2) + 0.4 * smooth(rng, frames, 2))
    )
    shake = smooth(rng, frames, 2, 0.3) * rng.choice([0.0, 0.001, 0.004], p=[0.6, 0.3, 0.1])
    zoom = np.exp(speed * rng.normal(0, rng.choice([0.0, 0.006, 0.015])) * time)
    roll = speed * rng.normal(0, rng.choice([0.0, 0.01])) * time
    moved = similarity(zoom, roll, np.zeros(2))
    out = about((0.5, 0.5), moved)
    out[..., 2] += speed * (pan + shake)
    return out
