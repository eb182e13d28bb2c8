"""A generated clip of textured shapes that move and hide each other."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH, HEIGHT = 160, 112


def frame(index: int) -> npt.NDArray[np.uint8]:
    """Return frame ``index``, uint8 ``[HEIGHT, WIDTH, 3]``; the same on every machine."""
    rng = np.random.default_rng(0)
    image = _texture(rng, (90, 110, 80))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    phase = 0.25 * index
    circle = (x - 50 - 18 * np.sin(phase)) ** 2 + (y - 54 - 3 * index % 20) ** 2 < 26**2
    box = (abs(x - 112 - 30 * np.sin(phase)) < 20) & (abs(y - 48 - 8 * np.sin(phase)) < 15)
    for inside, colour in ((circle, (210, 60, 50)), (box, (40, 90, 220))):
        image[inside] = _texture(rng, colour)[inside]
    return image


def write_clip(folder: Path, frames: int) -> Path:
    """Write numbered JPEG files, as the official predictor wants them, and return the folder."""
    folder.mkdir(parents=True)
    for index in range(frames):
        Image.fromarray(frame(index)).save(folder / f"{index:05d}.jpg", quality=95)
    return folder


def _texture(rng: np.random.Generator, colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    coarse = rng.normal(0, 25, (HEIGHT // 8, WIDTH // 8, 1)).repeat(8, 0).repeat(8, 1)
    fine = rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    return (np.array(colour) + coarse + fine).clip(0, 255).astype(np.uint8)
