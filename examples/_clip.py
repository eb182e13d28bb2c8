"""A generated clip whose exact masks are known: a textured object hides behind a pillar."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from qsam2_deploy.runtime.media.video_writer import VideoWriter

FPS = 12.0
_START, _WAY = 0.2, 0.46  # of the object's centre, as shares of the frame's width
_RADIUS = 0.14  # of the object, as a share of the height
_PILLAR = 0.34  # width of the pillar, as a share of the width: it hides the object completely


@dataclass(frozen=True)
class Clip:
    """A clip and what is true about it.

    Attributes:
        frames: uint8 RGB ``[T, height, width, 3]``.
        masks: bool ``[T, height, width]``: the visible part of the object.
        click: ``(x, y)`` in pixels, on the object in the first frame.
    """

    frames: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    click: tuple[int, int]


def make_clip(seed: int = 0, frames: int = 32, height: int = 240, width: int = 320) -> Clip:
    """Draw a clip; the same arguments give the same pixels on every machine.

    The object turns while it moves to the right, behind a pillar which hides it completely, and
    comes back to the left.
    """
    rng = np.random.default_rng(seed)
    background, pillar, skin = (
        _texture(rng, height, width, colour)
        for colour in ((96, 116, 96), (122, 104, 84), (214, 96, 52))
    )
    hidden = np.abs(np.arange(width) - (_START + _WAY) * width) < _PILLAR * width / 2
    pictures, masks = [], []
    for t in np.linspace(0.0, 1.0, frames):
        inside, texels = _object(t, height, width)
        picture = background.copy()
        picture[inside] = skin[texels[0] % height, texels[1] % width][inside]
        picture[:, hidden] = pillar[:, hidden]
        noise = rng.normal(0.0, 2.0, picture.shape)
        pictures.append((picture + noise).clip(0, 255).astype(np.uint8))
        masks.append(inside & ~hidden)
    centre = _centre(0.0, height, width)
    return Clip(np.stack(pictures), np.stack(masks), (round(centre[0]), round(centre[1])))


def write_clip(clip: Clip, path: Path) -> None:
    """Write the frames as H.264 video to ``path``, whose name ends in ``.mp4``."""
    height, width = clip.frames.shape[1:3]
    with VideoWriter(path, height=height, width=width, fps=FPS) as video:
        for frame in clip.frames:
            video.write(frame)


def _centre(t: float, height: int, width: int) -> tuple[float, float]:
    """Return the object's centre ``(x, y)`` at time ``t`` from 0 to 1."""
    way = 1.0 - abs(2.0 * t - 1.0)
    return width * (_START + _WAY * way), height * (0.5 + 0.12 * np.sin(2.0 * np.pi * t))


def _object(
    t: float, height: int, width: int
) -> tuple[npt.NDArray[np.bool_], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return where the object is, and which row and column of its texture each pixel shows."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x0, y0 = _centre(t, height, width)
    turn = 1.5 * t
    u = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
    v = (y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)
    edge = _RADIUS * height * (1.0 + 0.18 * np.cos(3.0 * np.arctan2(v, u)))
    rows, columns = np.round(v + height / 2), np.round(u + width / 2)
    return np.hypot(u, v) < edge, (rows.astype(np.int64), columns.astype(np.int64))


def _texture(
    rng: np.random.Generator, height: int, width: int, colour: tuple[int, int, int]
) -> npt.NDArray[np.float64]:
    """Return noise of several grain sizes around ``colour``, float ``[height, width, 3]``."""
    pixels = np.zeros((height, width)) + rng.normal(0.0, 4.0, (height, width))
    for grain, strength in ((40, 22.0), (12, 16.0), (5, 9.0)):
        coarse = rng.normal(0.0, strength, (height // grain + 2, width // grain + 2))
        image = Image.fromarray(coarse.astype(np.float32))
        pixels += np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return np.array(colour) + pixels[..., None] * rng.uniform(0.7, 1.0, 3)


if __name__ == "__main__":
    write_clip(make_clip(), Path(sys.argv[1]))
