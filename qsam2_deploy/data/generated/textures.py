"""Procedural textures: one small function per kind, and a bank that makes them when needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from ..sample import Frames

Field = npt.NDArray[np.float32]  # [S, S], 0 .. 1
Colours = npt.NDArray[np.float32]  # [3, 3], one RGB colour per row, 0 .. 255
Pattern = Callable[[np.random.Generator, Colours], Field]

SIDE = 192  # pixels of a texture


def random_colour(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return an RGB colour [3], 0 .. 255, of uniform hue and any saturation and brightness."""
    value = rng.integers(30, 256)
    saturation = rng.uniform(0.0, 1.0) * rng.uniform(0.2, 1.0)
    hue = np.abs((rng.uniform(0, 6) + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0
    return np.asarray(value * (1 - saturation * (1 - np.clip(hue, 0, 1))), np.float32)


def noise(rng: np.random.Generator, cells: int, side: int = SIDE) -> Field:
    """Return cloudy noise [side, side] in 0 .. 1, whose largest clouds are side / cells wide."""
    cv2 = opencv()
    out = np.zeros((side, side), np.float32)
    fade, amplitude = rng.uniform(0.3, 0.7), 1.0
    while cells <= side // 2:
        octave = rng.random((cells, cells), dtype=np.float32)
        out += amplitude * cv2.resize(octave, (side, side), interpolation=cv2.INTER_CUBIC)
        amplitude *= fade
        cells *= 2
    out -= out.min()
    return np.asarray(out / (out.max() + 1e-6), np.float32)


def _axes() -> tuple[Field, Field]:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return x, y


def _sharpen(wave: Field, hardness: float) -> Field:
    return np.asarray(1 / (1 + np.exp(-hardness * wave)), np.float32)


def _turned(rng: np.random.Generator) -> tuple[Field, Field]:
    """Coordinates, pixels, along two axes at a random angle."""
    x, y = _axes()
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _plain(rng: np.random.Generator) -> Field:
    return np.asarray(noise(rng, 2) * rng.uniform(0.05, 0.4), np.float32)


def _clouds(rng: np.random.Generator) -> Field:
    return noise(rng, int(rng.integers(2, 9)))


def _stripes(rng: np.random.Generator) -> Field:
    along, _ = _turned(rng)
    bend = noise(rng, 3) * np.float32(rng.uniform(0, 8))
    wave = np.sin(along * np.float32(rng.uniform(0.08, 0.5)) + bend)
    return _sharpen(wave, rng.uniform(1, 8))


def _checks(rng: np.random.Generator) -> Field:
    u, v = _turned(rng)
    pitch = np.float32(rng.uniform(0.1, 0.5))
    wave = np.sin(u * pitch) * np.sin(v * pitch * np.float32(rng.uniform(0.6, 1.5)))
    return _sharpen(wave, rng.uniform(2, 10))


def _patches(rng: np.random.Generator) -> Field:
    field = noise(rng, int(rng.integers(3, 8)))
    return np.where(field < 0.45, 0.0, np.where(field < 0.6, 0.5, 1.0)).astype(np.float32)


def _grain(rng: np.random.Generator) -> Field:
    grain = rng.random((SIDE, SIDE), dtype=np.float32) * np.float32(rng.uniform(0.1, 0.5))
    return np.asarray(np.clip(noise(rng, 4) * 0.5 + grain, 0, 1), np.float32)


def _fur(rng: np.random.Generator) -> Field:
    """Grain smeared along one direction."""
    cv2 = opencv()
    length = int(rng.integers(7, 22))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = np.array([length / 2, length / 2])
    ends = [tuple(int(v) for v in np.round(middle + side * reach)) for side in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    smeared = cv2.filter2D(rng.random((SIDE, SIDE), dtype=np.float32), -1, kernel / kernel.sum())
    smeared = (smeared - 0.5) * np.float32(rng.uniform(1.0, 3.0)) + noise(rng, 3)
    return np.asarray(np.clip(smeared, 0, 1), np.float32)


def _cells(rng: np.random.Generator) -> Field:
    """Each point has the shade of its nearest seed."""
    count, coarse = int(rng.integers(6, 40)), SIDE // 2
    seeds = rng.random((count, 2), dtype=np.float32) * coarse
    y, x = np.mgrid[:coarse, :coarse].astype(np.float32)
    distance = (x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2
    shades = rng.random(count, dtype=np.float32)[distance.argmin(-1)]
    return np.repeat(np.repeat(shades, 2, 0), 2, 1)


def _tiles(rng: np.random.Generator) -> Field:
    """Bricks or planks with joints, each of its own shade."""
    u, v = _turned(rng)
    height = rng.uniform(8, 40)
    width = height * rng.uniform(1.0, 6.0)
    row = np.floor(v / height)
    column = u / width + 0.5 * (row % 2)
    hashed = np.sin(row * 12.9898 + np.floor(column) * 78.233) * 43758.5453
    joint = (v / height - row < 0.1) | ((column - np.floor(column)) * width < 0.1 * height)
    shade = np.where(joint, 1.0, rng.uniform(0.1, 0.6) * (hashed - np.floor(hashed)))
    return np.asarray(shade, np.float32)


def _strokes(rng: np.random.Generator) -> Field:
    """Random straight strokes, as of grass, twigs or scratches."""
    cv2 = opencv()
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    spread, heading = rng.uniform(0.05, 1.5), rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(30, 200))):
        x, y = rng.uniform(0, SIDE, 2)
        angle, length = heading + rng.normal(0, spread), rng.uniform(8, 60)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        shade = int(rng.integers(40, 256))
        cv2.line(canvas, (int(x), int(y)), end, shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    return np.asarray(canvas / 255, np.float32)


_PATTERNS = (
    _plain, _clouds, _stripes, _checks, _patches, _grain, _fur, _cells, _tiles, _strokes,
)  # fmt: skip


def _coloured(rng: np.random.Generator, field: Field) -> Frames:
    """Colour a field with three colours at 0, 0.5 and 1."""
    colours = np.stack([random_colour(rng) for _ in range(3)])
    if rng.random() < 0.5:  # shades of one colour: most real surfaces
        colours[1:] = colours[0] * rng.uniform(0.4, 1.6, (2, 1))
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    ramp = np.stack([np.interp(levels, [0, 0.5, 1], colours[:, c]) for c in range(3)], -1)
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    return np.asarray(table[(field * 255).astype(np.uint8)], np.uint8)


class TextureBank:
    """Textures [192, 192, 3] uint8 that depend on the seed and their number alone."""

    def __init__(self, seed: int, count: int) -> None:
        """Make nothing yet: each texture is made when first asked for."""
        self._seed, self._count = seed, count
        self._made: dict[int, Frames] = {}

    def __len__(self) -> int:
        return self._count

    def texture(self, number: int) -> Frames:
        """Return texture ``number`` of 0 .. count - 1."""
        if number not in self._made:
            rng = np.random.default_rng((self._seed, 0x7E87, number))
            pattern = _PATTERNS[number % len(_PATTERNS)]
            self._made[number] = _coloured(rng, pattern(rng))
        return self._made[number]

    def pick(self, rng: np.random.Generator) -> Frames:
        """Return a random texture."""
        return self.texture(int(rng.integers(self._count)))

    def pick_plain(self, rng: np.random.Generator) -> Frames:
        """Return a random texture of nearly one colour."""
        plain = (self._count + len(_PATTERNS) - 1) // len(_PATTERNS)
        return self.texture(int(rng.integers(plain)) * len(_PATTERNS))
