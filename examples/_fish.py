"""A clownfish for the demo's clip: its pieces, its skins, and how it swims."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qsam2_deploy.data.changes.affine import similarity
from qsam2_deploy.data.generated.shapes import Contour, Piece, Shape
from qsam2_deploy.data.generated.skins import Skin
from qsam2_deploy.data.generated.textures import noise

Field = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

BODY, FIN, EYE = 0, 1, 2  # materials
_SIDE = 384  # pixels of a skin
_REACH = 1.25  # a skin covers -_REACH .. _REACH
_WHITE, _BLACK = np.array([250, 247, 238]), np.array([24, 18, 20])


def fish(frames: int, beat: float = 0.55, phase: float = 0.0) -> Shape:
    """Return a fish of radius 1 that faces along x and beats its tail.

    Args:
        frames: length of the clip.
        beat: radians per frame.
        phase: of the beat in the first frame, radians.
    """
    swing = np.sin(beat * np.arange(frames) + phase)
    late = np.sin(beat * np.arange(frames) + phase - 1.0)
    flap = np.sin(1.3 * beat * np.arange(frames) + phase)
    return (
        _fin(_TAIL, (-0.86, 0.02), 0.10 * late, 1.0 - 0.28 * late**2),
        _fin(_DORSAL, (0.05, -0.40), 0.04 * swing),
        _fin(_ANAL, (-0.38, 0.36), -0.05 * swing),
        _fin(_PELVIC, (0.22, 0.40), 0.10 * flap),
        Piece((_body(swing, late),), similarity(np.ones(frames), 0.0, np.zeros(2)), BODY, _REACH),
        _fin(_PECTORAL, (0.28, 0.12), 0.35 * flap + 0.25),
        _eye(frames),
    )


def fish_skins(seed: int) -> dict[int, Skin]:
    """Return the looks of a fish by material; another seed changes the edges of its bands."""
    rng = np.random.default_rng(seed)
    return {
        BODY: Skin(_body_skin(rng)),
        FIN: Skin(_fin_skin(rng)),
        EYE: Skin(_eye_skin()),
    }


def _rounded(corners: list[tuple[float, float]], points: int = 48) -> npt.NDArray[np.float64]:
    """Return a smooth closed curve [P, 2] through the neighbourhood of ``corners``."""
    curve = np.array(corners, np.float64)
    for _ in range(3):  # Chaikin's corner cutting
        after = np.roll(curve, -1, 0)
        pairs = np.stack([0.75 * curve + 0.25 * after, 0.25 * curve + 0.75 * after], 1)
        curve = pairs.reshape(-1, 2)
    return curve[:: max(1, len(curve) // points)]


# Outlines about the root of each fin, which lies inside the body.
_TAIL = _rounded([(0.15, -0.12), (-0.1, -0.16), (-0.45, -0.44), (-0.66, -0.36), (-0.60, -0.1),
                  (-0.62, 0.1), (-0.66, 0.36), (-0.45, 0.44), (-0.1, 0.16),
                  (0.15, 0.12)])  # fmt: skip
_DORSAL = _rounded([(0.52, 0.16), (0.40, -0.16), (0.16, -0.24), (0.0, -0.15), (-0.2, -0.24),
                    (-0.52, -0.20), (-0.62, 0.06), (-0.4, 0.22)])  # fmt: skip
_ANAL = _rounded([(0.26, -0.14), (0.12, 0.12), (-0.1, 0.26), (-0.34, 0.20), (-0.36, 0.0),
                  (-0.2, -0.16)])  # fmt: skip
_PELVIC = _rounded([(0.16, -0.14), (0.10, 0.14), (-0.12, 0.34), (-0.24, 0.26), (-0.16, -0.12)])
_PECTORAL = _rounded([(0.08, -0.10), (-0.16, -0.22), (-0.40, -0.12), (-0.46, 0.06), (-0.34, 0.2),
                      (-0.1, 0.14), (0.08, 0.06)])  # fmt: skip


def _fin(
    outline: npt.NDArray[np.float64],
    root: tuple[float, float],
    angle: npt.NDArray[np.float64],
    squash: npt.ArrayLike = 1.0,
) -> Piece:
    frames = len(angle)
    contour = np.broadcast_to(outline, (frames, *outline.shape))
    pose = similarity(np.ones(frames), angle, np.broadcast_to(np.array(root), (frames, 2)), squash)
    return Piece((contour,), pose, FIN, extent=0.75)


def _half_height(t: Field) -> Field:
    """Half the body's height at ``t``, from 0 at the tail to 1 at the nose."""
    return np.asarray(0.12 * (1 - t) + 0.44 * _arch(t) ** 0.7, np.float32)


def _arch(t: Field) -> Field:
    return np.asarray(np.clip(np.sin(np.pi * t**0.85), 0, 1), np.float32)


def _body(swing: npt.NDArray[np.float64], late: npt.NDArray[np.float64]) -> Contour:
    """Outline [T, P, 2]; the rear half gives way to the beat of the tail."""
    t = np.linspace(0.0, 1.0, 40).astype(np.float32)
    half = _half_height(t)
    x = 1.92 * t - 0.95
    x = np.concatenate([x, x[::-1]])
    y = np.concatenate([-half, (0.96 * half)[::-1]])
    rear = np.clip(-x, 0, 1) ** 2
    bend = 0.03 * np.outer(swing, rear) + 0.02 * np.outer(late, rear)
    return np.stack([np.broadcast_to(x, bend.shape), y + bend], -1)


def _eye(frames: int) -> Piece:
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    pose = similarity(np.full(frames, 0.105), 0.0, np.broadcast_to([0.68, -0.12], (frames, 2)))
    return Piece((np.broadcast_to(circle, (frames, 28, 2)),), pose, EYE, extent=1.05)


def _axes(reach: float) -> tuple[Field, Field]:
    line = np.linspace(-reach, reach, _SIDE, dtype=np.float32)
    return line[None, :], line[:, None]


def _step(value: Field, width: float) -> Field:
    """0 below zero, 1 above, with a ramp of ``width`` in between."""
    return np.asarray(np.clip(value / width + 0.5, 0, 1), np.float32)


def _mix(base: Field, colour: npt.ArrayLike, weight: Field) -> Field:
    return np.asarray(base + (np.asarray(colour) - base) * weight[..., None], np.float32)


def _uint8(picture: Field) -> Picture:
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _body_skin(rng: np.random.Generator) -> Picture:
    """Orange with white bands between black lines, a dark back, scales and a shine."""
    x, y = _axes(_REACH)
    cloud = noise(rng, 6, _SIDE) - 0.5
    picture = np.broadcast_to(np.array([246, 122, 26], np.float32), (_SIDE, _SIDE, 3))
    picture = _mix(picture, [196, 58, 14], _step(-y - 0.12 + 0.2 * cloud + 0 * x, 0.55))
    picture = _mix(picture, [255, 184, 84], _step(y - 0.26 + 0.1 * cloud + 0 * x, 0.45))
    for middle, width, bow in ((0.36, 0.115, 0.16), (-0.28, 0.105, -0.12), (-0.86, 0.05, 0.0)):
        away = np.abs(x - middle - bow * (0.25 - y**2) + 0.07 * cloud) - width
        picture = _mix(picture, _BLACK, _step(0.05 - away, 0.03))
        picture = _mix(picture, _WHITE, _step(-away, 0.03))
    scales = np.cos(22 * (x + 0.5 * y)) * np.cos(22 * (x - 0.5 * y))
    light = 1.0 + 0.045 * scales + 0.10 * cloud
    # The body is round: bright where the light from above meets it, dark along its lower edge.
    light += 0.22 * np.exp(-(((y + 0.20) / 0.13) ** 2)) - 0.30 * _step(y - 0.36 + 0 * x, 0.3)
    gill = np.exp(-(((np.hypot(x - 0.86, 0.8 * y) - 0.38) / 0.018) ** 2)) * (x < 0.62)
    mouth = np.exp(-(((y - 0.08 - 0.25 * (x - 0.9)) / 0.014) ** 2)) * (x > 0.83)
    light -= 0.25 * gill + 0.5 * mouth
    return _uint8(picture * light[..., None])


def _fin_skin(rng: np.random.Generator) -> Picture:
    """Orange with rays that spread from the root, darker towards the rim."""
    x, y = _axes(0.75)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rays = 0.5 + 0.5 * np.cos(38 * angle)
    picture = np.broadcast_to(np.array([250, 138, 38], np.float32), (_SIDE, _SIDE, 3))
    picture = _mix(picture, [214, 84, 20], np.asarray(0.7 * rays, np.float32))
    rim = radius + 0.06 * (noise(rng, 5, _SIDE) - 0.5)
    picture = _mix(picture, _BLACK, 0.85 * _step(rim - 0.60, 0.10))
    return _uint8(picture)


def _eye_skin() -> Picture:
    """A black pupil in an amber ring with a spot of light."""
    x, y = _axes(1.05)
    radius = np.hypot(x, y)
    picture = np.broadcast_to(np.array([28, 20, 18], np.float32), (_SIDE, _SIDE, 3))
    picture = _mix(picture, [240, 170, 60], _step(0.86 - radius, 0.08))
    picture = _mix(picture, [10, 8, 10], _step(0.58 - radius, 0.06))
    return _uint8(_mix(picture, [255, 255, 255], _step(0.2 - np.hypot(x - 0.25, y + 0.3), 0.08)))
