"""One picture of a whole run: evenly spaced frames in a grid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..._common.files import describe_os_error
from ...errors import InputError
from ..protocols import RgbImage
from .image_writer import check_image_suffix
from .pending_file import PendingFile

TILE_WIDTH = 320
GAP = 4


class ContactSheet:
    """Keeps evenly spaced frames, whatever their number turns out to be, and draws the grid.

    It takes every frame at first. Whenever it holds four times the wanted number it drops every
    other one and halves its pace, so memory stays bounded even for a camera.
    """

    def __init__(self, path: Path, *, tiles: int = 12) -> None:
        """Open ``path`` for a grid of at most ``tiles`` frames.

        Raises:
            VideoError: the name's suffix is not .png or .jpg.
            InputError: the folder is absent or cannot be written to.
        """
        check_image_suffix(path)
        self.path = path
        self._tiles = max(1, tiles)
        self._stride = 1
        self._seen = 0
        self._last: tuple[int, RgbImage] | None = None
        self._kept: list[tuple[int, RgbImage]] = []
        self._file: PendingFile | None = PendingFile(path)

    def add(self, frame_index: int, image: RgbImage) -> None:
        """Offer a uint8 RGB frame ``[height, width, 3]``."""
        wanted = self._seen % self._stride == 0
        self._seen += 1
        self._last = (frame_index, image)
        if not wanted:
            return
        self._kept.append((frame_index, _shrink(image)))
        if len(self._kept) > 4 * self._tiles:
            self._kept = self._kept[::2]
            self._stride *= 2

    def close(self) -> None:
        """Write the picture; without frames, leave none.

        Raises:
            InputError: the disk is full.
        """
        pending, self._file = self._file, None
        if pending is None:
            return
        if not self._kept:
            pending.discard()
            return
        try:
            Image.fromarray(_grid(self._chosen())).save(pending.temporary)
        except OSError as error:
            pending.discard()
            raise InputError(describe_os_error(error, self.path)) from error
        pending.commit()

    def _chosen(self) -> list[tuple[int, RgbImage]]:
        kept = list(self._kept)
        if self._last is not None and self._last[0] != kept[-1][0]:
            kept.append((self._last[0], _shrink(self._last[1])))
        numbers = np.array([index for index, _ in kept])
        if len(kept) <= self._tiles:
            return kept
        wanted = np.linspace(numbers[0], numbers[-1], self._tiles)
        return [kept[int(np.abs(numbers - number).argmin())] for number in wanted]


def _shrink(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    tile_height = max(1, round(height * TILE_WIDTH / width))
    small = Image.fromarray(image).resize((TILE_WIDTH, tile_height))
    return np.array(small, dtype=np.uint8)


def _grid(tiles: list[tuple[int, RgbImage]]) -> RgbImage:
    columns = min(4, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0][1].shape[:2]
    sheet = np.full(
        (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, dtype=np.uint8
    )
    for place, (frame_index, tile) in enumerate(tiles):
        y = GAP + (place // columns) * (height + GAP)
        x = GAP + (place % columns) * (width + GAP)
        sheet[y : y + height, x : x + width] = _numbered(tile, frame_index)
    return sheet


def _numbered(tile: RgbImage, frame_index: int) -> RgbImage:
    image = Image.fromarray(tile)
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(16)
    area = canvas.textbbox((8, 6), f"frame {frame_index}", font=font)
    canvas.rectangle((area[0] - 5, area[1] - 4, area[2] + 5, area[3] + 4), fill=(0, 0, 0))
    canvas.text((8, 6), f"frame {frame_index}", fill=(255, 255, 255), font=font)
    return np.array(image, dtype=np.uint8)
