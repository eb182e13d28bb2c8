"""Drawing masks over frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ...tracking.results import FrameResult
from ..protocols import RgbImage
from .palette import overlay_color

OPACITY = 0.45
"""Share of the object's colour inside its mask."""

CROWD = 20
"""With more objects than this, a number that would lie on another one is left out."""

Mask = npt.NDArray[np.bool_]


def draw_overlay(frame: RgbImage, result: FrameResult) -> RgbImage:
    """Return a copy of ``frame`` with every object's mask, contour and number.

    Args:
        frame: uint8 ``[height, width, 3]``.
        result: objects whose masks have the frame's height and width.
    """
    drawn = frame.copy()
    thickness = line_thickness(*frame.shape[:2])
    labels: list[tuple[int, int, int]] = []
    for item in result.objects:
        box = mask_box(item.mask)
        if box is None:
            continue
        _blend(drawn, item.mask, box, overlay_color(item.object_id), thickness)
        labels.append((item.object_id, (box[0] + box[2]) // 2, box[1]))
    return _draw_labels(drawn, labels) if labels else drawn


def mask_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return ``(x1, y1, x2, y2)`` around the mask in pixels, None if it is empty.

    ``x2`` and ``y2`` are one past the last pixel, so ``x2 - x1`` is the width.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def contour(mask: Mask, thickness: int) -> Mask:
    """Return the mask's pixels that are within ``thickness`` pixels of its outside.

    The distance counts horizontal and vertical steps; the image border is no outside.
    """
    inner = np.pad(mask, 1, constant_values=True)
    for _ in range(thickness):
        core = inner[1:-1, 1:-1].copy()
        core &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        inner[1:-1, 1:-1] = core
    return mask & ~inner[1:-1, 1:-1]


def line_thickness(height: int, width: int) -> int:
    """Return the width of a line that is well visible on a frame of this size, in pixels."""
    return max(1, round(min(height, width) / 300))


def _blend(
    drawn: RgbImage,
    mask: Mask,
    box: tuple[int, int, int, int],
    color: tuple[int, int, int],
    thickness: int,
) -> None:
    """Colour the mask on ``drawn`` in place; only its box, with a margin, is touched."""
    height, width = mask.shape
    rows = slice(max(0, box[1] - 1), min(height, box[3] + 1))
    columns = slice(max(0, box[0] - 1), min(width, box[2] + 1))
    part, pixels = mask[rows, columns], drawn[rows, columns]
    levels = np.arange(256, dtype=np.float32)[:, None]
    mixed = (1 - OPACITY) * levels + OPACITY * np.array(color, dtype=np.float32)
    table = np.round(mixed).astype(np.uint8)
    pixels[part] = table[pixels[part], np.arange(3)]
    pixels[contour(part, thickness)] = color


def _draw_labels(drawn: RgbImage, labels: list[tuple[int, int, int]]) -> RgbImage:
    height, width = drawn.shape[:2]
    size = max(10, round(min(height, width) / 28))
    font = ImageFont.load_default(size)
    image = Image.fromarray(drawn)
    canvas = ImageDraw.Draw(image)
    placed: list[tuple[float, float, float, float]] = []
    for object_id, x, y in labels:
        text = str(object_id)
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        pad = max(2, size // 4)
        box_width, box_height = right - left + 2 * pad, bottom - top + 2 * pad
        x1 = min(max(0, x - box_width / 2), max(0, width - box_width))
        y1 = min(max(0, y - box_height), max(0, height - box_height))
        area = (x1, y1, x1 + box_width, y1 + box_height)
        if len(labels) > CROWD and any(_touch(area, other) for other in placed):
            continue
        placed.append(area)
        canvas.rounded_rectangle(area, radius=pad, fill=overlay_color(object_id))
        canvas.text((x1 + pad - left, y1 + pad - top), text, fill=(0, 0, 0), font=font)
    return np.array(image, dtype=np.uint8)


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
