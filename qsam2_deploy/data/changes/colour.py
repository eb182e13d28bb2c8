"""Recolouring of frames: gain, bias, saturation, hue and grey in one matrix, and gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from ..sample import Frames

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class ColourMap:
    """A change of colours that is the same for all pixels.

    Attributes:
        matrix: [3, 4] maps (R, G, B, 1) to R, G, B, all 0 .. 255.
        gamma: exponent on the values of 0 .. 1, after the matrix.
    """

    matrix: npt.NDArray[np.float64]
    gamma: float = 1.0

    def apply(self, image: Frames) -> Frames:
        """Recolour [h, w, 3] uint8."""
        cv2 = opencv()
        out: Frames = cv2.transform(np.ascontiguousarray(image), self.matrix)
        if self.gamma != 1.0:
            levels = np.linspace(0, 1, 256) ** self.gamma
            out = cv2.LUT(out, np.round(255 * levels).astype(np.uint8))
        return out


def colour_matrix(
    gain: npt.ArrayLike = 1.0, bias: npt.ArrayLike = 0.0, saturation: float = 1.0, hue: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return a matrix [3, 4] for ``ColourMap``.

    Args:
        gain: scalar or [3], factor per channel, applied last.
        bias: scalar or [3], 0 .. 255 scale, added last.
        saturation: 0 is grey, 1 leaves the colours.
        hue: turn of the colours around the grey axis, radians.
    """
    cos, sin = np.cos(hue), np.sin(hue)
    third, root = (1 - cos) / 3, sin / np.sqrt(3)
    turn = cos * np.eye(3) + third + root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    saturate = saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :]
    linear = np.broadcast_to(np.asarray(gain, np.float64), 3)[:, None] * (saturate @ turn)
    offset = np.broadcast_to(np.asarray(bias, np.float64), 3)[:, None]
    return np.concatenate([linear, offset], 1)


def random_colour_map(rng: np.random.Generator, strength: float = 1.0) -> ColourMap:
    """Return random recolouring; ``strength`` 1 makes red cars blue, 0 changes nothing."""
    grey = rng.random() < 0.1 * strength
    channel = rng.uniform(-0.25, 0.25, 3) * strength
    return ColourMap(
        colour_matrix(
            gain=np.exp(rng.uniform(-0.45, 0.3) * strength + channel),
            bias=rng.uniform(-25, 25, 3) * strength,
            saturation=0.0 if grey else float(np.exp(rng.uniform(-0.6, 0.5) * strength)),
            hue=float(rng.choice([0.0, 0.3, np.pi]) * rng.uniform(-1, 1) * strength),
        )
    )
