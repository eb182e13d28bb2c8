"""A picture of where a model does worst: one frame per object, the lowest J&F of each."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..data.sample import VideoSequence
from ..media.writing.drawing import OPACITY, contour, line_thickness
from ..media.writing.image_writer import check_image_suffix, write_image
from ..media.writing.palette import overlay_color
from .metrics import boundary_accuracy, region_similarity
from .model import Masks
from .results import ObjectResult, SequenceResult

TILE_WIDTH = 400
TRUTH_COLOR = (255, 255, 255)

_GAP = 4
_COLUMNS = 3
_TEXT_HEIGHT = 40

Image8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class WorstFrames:
    """An observer that keeps the masks of a sequence, packed, until its worst frames are known."""

    def __init__(self, path: Path) -> None:
        """Draw into the file ``path`` when :meth:`write` is called.

        Raises:
            VideoError: the name does not end in .png or .jpg.
        """
        check_image_suffix(path)
        self._path = path
        self._packed: dict[int, dict[int, npt.NDArray[np.uint8]]] = defaultdict(dict)
        self._tiles: list[tuple[float, Image8]] = []

    def frame(self, sequence: VideoSequence, index: int, masks: Masks) -> None:
        """Keep the masks of one frame."""
        for object_id in sequence.object_ids:
            if object_id in masks:
                self._packed[object_id][index] = np.packbits(masks[object_id])

    def sequence(self, sequence: VideoSequence, result: SequenceResult) -> None:
        """Draw the worst frame of each object and forget the masks."""
        for item in result.objects:
            packed = self._packed[item.object_id].get(item.worst_frame)
            predicted = _unpacked(packed, sequence.size)
            self._tiles.append(_tile(sequence, item, predicted))
        self._packed.clear()

    def write(self) -> None:
        """Write the picture, the worst frames first.

        Raises:
            InputError: the folder cannot be written to, or the disk is full.
        """
        tiles = [tile for _, tile in sorted(self._tiles, key=lambda item: item[0])]
        write_image(self._path, _grid(tiles))


def draw_comparison(frame: Image8, predicted: Mask, truth: Mask, object_id: int) -> Image8:
    """Return ``frame`` [H, W, 3] with the prediction filled and the truth as a white outline."""
    drawn = frame.astype(np.float32)
    color = np.array(overlay_color(object_id), np.float32)
    drawn[predicted] = (1 - OPACITY) * drawn[predicted] + OPACITY * color
    thickness = 2 * line_thickness(*truth.shape)
    drawn[contour(predicted, thickness)] = color
    # A black rim keeps the white line visible on bright frames.
    drawn[contour(truth, 2 * thickness)] = 0
    drawn[contour(truth, thickness)] = TRUTH_COLOR
    return np.round(drawn).astype(np.uint8)


def _tile(sequence: VideoSequence, item: ObjectResult, predicted: Mask) -> tuple[float, Image8]:
    index = item.worst_frame
    truth = sequence.masks(index)[item.object_id]
    j, f = 100 * region_similarity(predicted, truth), 100 * boundary_accuracy(predicted, truth)
    drawn = draw_comparison(sequence.frame(index), predicted, truth, item.object_id)
    height = max(1, round(drawn.shape[0] * TILE_WIDTH / drawn.shape[1]))
    image = Image.new("RGB", (TILE_WIDTH, height + _TEXT_HEIGHT), "white")
    small = Image.fromarray(drawn).resize((TILE_WIDTH, height), Image.Resampling.LANCZOS)
    image.paste(small, (0, _TEXT_HEIGHT))
    text = (
        f"{sequence.name}, object {item.object_id}, frame {index}\n"
        f"J {j:.1f}   F {f:.1f}   (mean J&F {item.j_and_f:.1f})"
    )
    ImageDraw.Draw(image).text((6, 3), text, fill="black", font=ImageFont.load_default(13))
    return (j + f) / 2, np.array(image, dtype=np.uint8)


def _grid(tiles: list[Image8]) -> Image8:
    rows = [tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)]
    width = min(_COLUMNS, len(tiles)) * (TILE_WIDTH + _GAP) + _GAP
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    sheet = np.full((sum(heights) + _GAP * (len(rows) + 1), width, 3), 255, np.uint8)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for place, tile in enumerate(row):
            x = _GAP + place * (TILE_WIDTH + _GAP)
            sheet[y : y + tile.shape[0], x : x + TILE_WIDTH] = tile
        y += height + _GAP
    return sheet


def _unpacked(packed: npt.NDArray[np.uint8] | None, size: tuple[int, int]) -> Mask:
    if packed is None:
        return np.zeros(size, np.bool_)
    count = size[0] * size[1]
    return np.unpackbits(packed, count=count).astype(np.bool_).reshape(size)
