"""Views: a smoothly changing crop, its colours and its noise, the same for frames and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .._checks import require_within
from .._opencv import opencv
from ..cache import Cutout
from ..sample import Frames
from .affine import Affine, about, compose, similarity, stretch
from .colour import ColourMap, colour_matrix
from .layers import Coverage
from .resample import warp


@dataclass(frozen=True)
class AugmentConfig:
    """How clips of real videos are varied.

    Attributes:
        whole_frame: share of clips that show the whole frame squashed to a square, as at test
            time; the others show a crop.
        crop: smallest and largest size of a crop as a share of the frame.
        mirror: share of mirrored clips.
        rotation: largest rotation, degrees.
        colour: strength of the colour changes; 0 switches them off.
        grey: share of clips without colour.
        spoil: share of clips with slight blur, and of clips with slight noise.

    Raises:
        InputError: a value is outside its range.
    """

    whole_frame: float = 0.4
    crop: tuple[float, float] = (0.4, 1.1)
    mirror: float = 0.5
    rotation: float = 15.0
    colour: float = 1.0
    grey: float = 0.05
    spoil: float = 0.1

    def __post_init__(self) -> None:
        require_within(self, 0.0, 1.0, "whole_frame", "mirror", "colour", "grey", "spoil")
        require_within(self, 0.0, 180.0, "rotation")
        if not 0.0 < self.crop[0] <= self.crop[1] <= 2.0:
            raise InputError(
                f"crop must be two numbers, 0 < smallest <= largest <= 2, but is {self.crop}"
            )


@dataclass(frozen=True)
class View:
    """What one frame becomes.

    Attributes:
        matrix: [2, 3] from the frame to the output, pixels.
        fill: colour where the frame does not reach.
    """

    matrix: Affine
    size: int
    fill: tuple[int, int, int] = (0, 0, 0)

    def image(self, image: Frames) -> Frames:
        """Return an image [H, W, 3] as [size, size, 3]."""
        return warp(image, self.matrix, (self.size, self.size), self.fill)

    def coverage(self, cutout: Cutout) -> Coverage:
        """Return how far each pixel [size, size] belongs to the object, 0 .. 255."""
        matrix = compose(self.matrix, stretch(1, 1, cutout.x0, cutout.y0))
        return warp(cutout.coverage, matrix, (self.size, self.size))


def _ramp(rng: np.random.Generator, frames: int, sigma: float) -> npt.NDArray[np.float64]:
    """[T] a slight drift from 0 that grows evenly; sigma is per frame."""
    return np.asarray(rng.normal(0, sigma) * np.arange(frames, dtype=np.float64))


def random_views(
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    frame_size: tuple[int, int],
    focus: tuple[float, float],
    frames: int,
    size: int,
) -> list[View]:
    """Return a view per frame.

    Args:
        rng: of the choices.
        config: their ranges.
        frame_size: height and width of the frames, pixels.
        focus: x and y in pixels of a point that the first view must show.
        frames: number of views.
        size: side of the output, pixels.
    """
    height, width = frame_size
    whole = rng.random() < config.whole_frame
    crop = (
        stretch(size / width, size / height)
        if whole
        else _crop(rng, config, frame_size, focus, size)
    )
    turn = 0.0 if whole and rng.random() < 0.7 else np.radians(rng.uniform(-1, 1) * config.rotation)
    drift = rng.random() < (0.2 if whole else 0.7)
    zoom = np.exp(_ramp(rng, frames, 0.006) * drift)
    roll = turn + _ramp(rng, frames, 0.006) * drift
    pan = np.stack([_ramp(rng, frames, 0.006), _ramp(rng, frames, 0.004)], -1) * size * drift
    pivot = crop[:, :2] @ np.array(focus) + crop[:, 2]
    moved = about(pivot, similarity(zoom, roll, np.zeros(2)))
    moved[..., 2] += pan
    matrices = compose(moved, crop)
    if rng.random() < config.mirror:
        matrices = compose(stretch(-1, 1, size), matrices)
    fill = _fill(rng)
    return [View(matrix, size, fill) for matrix in matrices]


def _fill(rng: np.random.Generator) -> tuple[int, int, int]:
    """Black, or any grey: where a frame ends is no object."""
    grey = int(rng.integers(0, 256)) if rng.random() < 0.5 else 0
    return grey, grey, grey


def _crop(
    rng: np.random.Generator,
    config: AugmentConfig,
    frame_size: tuple[int, int],
    focus: tuple[float, float],
    size: int,
) -> Affine:
    """The map [2, 3] from a crop that shows ``focus``, within the frame if it fits, to a square."""
    height, width = frame_size
    scale = rng.uniform(*config.crop)
    shape = (width / height) ** rng.uniform(0.0, 1.0)  # 0: a square crop, 1: squashed as a whole
    crop_h, crop_w = scale * height, min(scale * height * shape, 1.1 * width)
    corner = [
        _crop_start(rng, point, length, full)
        for point, length, full in ((focus[0], crop_w, width), (focus[1], crop_h, height))
    ]
    x, y = size / crop_w, size / crop_h
    return stretch(x, y, -corner[0] * x, -corner[1] * y)


def _crop_start(rng: np.random.Generator, point: float, length: float, full: float) -> float:
    start = point - length * rng.uniform(0.15, 0.85)
    low, high = min(0.0, full - length), max(0.0, full - length)
    return float(np.clip(start, low, high))


def random_colours(
    rng: np.random.Generator, config: AugmentConfig, frames: int
) -> list[ColourMap] | None:
    """Return one change of colours per frame, drifting slightly; None for no change."""
    if config.colour == 0 or rng.random() < 0.2:
        return None
    strength = config.colour
    gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.06, 3)) ** strength
    bias = (rng.normal(0, 8) + rng.normal(0, 4, 3)) * strength
    saturation = (
        0.0 if rng.random() < config.grey else float(np.exp(rng.normal(0, 0.25) * strength))
    )
    hue = rng.normal(0, 0.15) * strength if rng.random() < 0.5 else 0.0
    gamma = float(np.exp(rng.normal(0, 0.2) * strength)) if rng.random() < 0.5 else 1.0
    light = np.exp(_ramp(rng, frames, 0.008) * strength)
    return [ColourMap(colour_matrix(gain * g, bias, saturation, hue), gamma) for g in light]


@dataclass(frozen=True)
class Spoiling:
    """Slight faults: blur as a standard deviation in pixels, half width of uniform noise."""

    blur: float = 0.0
    noise: float = 0.0

    def apply(self, rng: np.random.Generator, image: Frames) -> Frames:
        """Spoil [H, W, 3] uint8."""
        cv2 = opencv()
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            grain = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
            strength = self.noise / 128
            image = cv2.addWeighted(image, 1.0, grain, strength, -127.5 * strength)
        return image


def random_spoiling(rng: np.random.Generator, config: AugmentConfig, size: int) -> Spoiling:
    """Return faults for a clip of ``size`` pixels; mostly none."""
    blur = rng.uniform(0.002, 0.005) * size if rng.random() < config.spoil else 0.0
    noise = rng.uniform(3, 14) if rng.random() < config.spoil else 0.0
    return Spoiling(blur, noise)


def finish(
    rng: np.random.Generator,
    images: list[Frames],
    colours: list[ColourMap] | None,
    spoiling: Spoiling,
) -> Frames:
    """Recolour and spoil images, and stack them: [T, H, W, 3]."""
    if colours is not None:
        images = [colour.apply(image) for colour, image in zip(colours, images, strict=True)]
    return np.stack([spoiling.apply(rng, image) for image in images])
