"""Skins: what the surface of a part looks like, at any resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import VideoError
from .._opencv import opencv
from ..changes.colour import ColourMap, random_colour_map
from ..changes.resample import resized
from ..sample import Frames
from .textures import TextureBank, random_colour


@dataclass(frozen=True)
class Spot:
    """An ellipse of one colour on a skin: centre, half axes (shares of the side), degrees."""

    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Skin:
    """A square picture: a piece of a texture, recoloured, with spots and shading.

    Attributes:
        source: [h, w, 3] uint8 RGB, stretched over the square.
        colours: recolouring, or None.
        spots: drawn in this order.
        shade: [2] change of brightness from one edge to the other along x and y.
    """

    source: Frames
    colours: ColourMap | None = None
    spots: tuple[Spot, ...] = ()
    shade: tuple[float, float] = (0.0, 0.0)

    def image(self, side: int) -> Frames:
        """Return the skin as [side, side, 3] uint8."""
        out = resized(self.source, side, side)
        if self.colours is not None:
            out = self.colours.apply(out)
        if self.spots:
            out = np.ascontiguousarray(out)
        for spot in self.spots:
            _draw_spot(out, spot, side)
        return _shaded(out, self.shade) if any(self.shade) else out


def _draw_spot(image: Frames, spot: Spot, side: int) -> None:
    cv2 = opencv()
    fixed = side * 16  # 4 fractional bits
    centre = tuple(round(v * fixed) for v in spot.centre)
    axes = tuple(max(round(v * fixed), 8) for v in spot.axes)
    cv2.ellipse(image, centre, axes, spot.angle, 0, 360, spot.colour, -1, cv2.LINE_AA, 4)


def _shaded(image: Frames, shade: tuple[float, float]) -> Frames:
    cv2 = opencv()
    side = image.shape[0]
    slope = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    light = 1 + shade[0] * slope[None, :] + shade[1] * slope[:, None]
    light = light.astype(np.float32)
    out: Frames = cv2.multiply(image, cv2.merge([light, light, light]), dtype=cv2.CV_8U)
    return out


def random_piece(rng: np.random.Generator, source: Frames, low: float, high: float) -> Frames:
    """Return a random upright piece of ``source``, turned and mirrored at random.

    Its sides are the shares low .. high (at most 1) of the shorter side of ``source``.
    """
    height, width = source.shape[:2]
    side = min(height, width) * np.exp(rng.uniform(np.log(low), np.log(high)))
    piece_h = min(max(round(side), 8), height)
    piece_w = min(max(round(side * rng.uniform(0.8, 1.25)), 8), width)
    y, x = rng.integers(0, height - piece_h + 1), rng.integers(0, width - piece_w + 1)
    piece = source[y : y + piece_h, x : x + piece_w]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return np.rot90(piece, int(rng.integers(1, 4))) if rng.random() < 0.25 else piece


def random_spots(rng: np.random.Generator) -> tuple[Spot, ...]:
    """Return one to four spots."""
    return tuple(
        Spot(
            centre=(rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)),
            axes=(rng.uniform(0.02, 0.2), rng.uniform(0.02, 0.2)),
            angle=rng.uniform(0, 180),
            colour=_as_tuple(random_colour(rng)),
        )
        for _ in range(int(rng.integers(1, 5)))
    )


def _as_tuple(colour: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in colour)
    return red, green, blue


_CLEAR_CONTRAST = 60  # levels of 0 .. 255, in the channel that differs most


def _contrast(first: Skin, second: Skin) -> float:
    """Difference between the mean colours, in the channel that differs most."""
    means = [skin.source.mean((0, 1)) for skin in (first, second)]
    return float(np.abs(means[0] - means[1]).max())


class Wardrobe:
    """Draws skins from a texture bank and from photos."""

    def __init__(self, bank: TextureBank, photos: Sequence[Frames], photo_share: float) -> None:
        """Cut the share ``photo_share`` of the skins from ``photos``, where there are any."""
        self._bank, self._photos = bank, photos
        self._share = photo_share if photos else 0.0

    def skin(self, rng: np.random.Generator) -> Skin:
        """Return a random skin for a part of an object."""
        if rng.random() < self._share:
            piece = random_piece(rng, self._photo(rng), 0.12, 0.8)
        else:
            piece = random_piece(rng, self._bank.pick(rng), 0.25, 1.0)
        return Skin(
            source=piece,
            colours=random_colour_map(rng) if rng.random() < 0.6 else None,
            spots=random_spots(rng) if rng.random() < 0.35 else (),
            shade=_random_shade(rng) if rng.random() < 0.5 else (0.0, 0.0),
        )

    def plain(self, rng: np.random.Generator, *, unlike: Skin | None = None) -> Skin:
        """Return a random skin of nearly one colour, most likely not that of ``unlike``."""
        for _ in range(8):
            skin = Skin(random_piece(rng, self._bank.pick_plain(rng), 0.4, 1.0))
            if unlike is None or _contrast(skin, unlike) > _CLEAR_CONTRAST:
                break
        return skin

    def backdrop(self, rng: np.random.Generator) -> Skin:
        """Return a random skin for a background."""
        if rng.random() < min(1.4 * self._share, 1.0):
            piece = _wide_piece(rng, self._photo(rng))
        else:
            piece = random_piece(rng, self._bank.pick(rng), 0.5, 1.0)
        return Skin(piece, random_colour_map(rng) if rng.random() < 0.4 else None)

    def _photo(self, rng: np.random.Generator) -> Frames:
        number = int(rng.integers(len(self._photos)))
        photo = self._photos[number]
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise VideoError(
                f"photo {number} must be uint8 of shape (H, W, 3), "
                f"but got {photo.dtype} of shape {photo.shape}"
            )
        return photo


def _wide_piece(rng: np.random.Generator, photo: Frames) -> Frames:
    """A large piece of a photo, often squashed to a square as the model sees real videos."""
    height, width = photo.shape[:2]
    share_y, share_x = rng.uniform(0.5, 1.0, 2)
    piece_h, piece_w = max(int(height * share_y), 1), max(int(width * share_x), 1)
    y, x = rng.integers(0, height - piece_h + 1), rng.integers(0, width - piece_w + 1)
    piece = photo[y : y + piece_h, x : x + piece_w]
    return piece[:, ::-1] if rng.random() < 0.5 else piece


def _random_shade(rng: np.random.Generator) -> tuple[float, float]:
    strength, angle = rng.uniform(0.2, 1.0), rng.uniform(0, 2 * np.pi)
    return strength * np.cos(angle), strength * np.sin(angle)


def procedural_wardrobe(seed: int) -> Wardrobe:
    """Return a wardrobe without photos, for what is drawn over real videos."""
    return Wardrobe(TextureBank(seed, 100), (), 0.0)
