"""Masks as polygons without holes.

A part of a mask that has holes is cut through them, so that several polygons, side by side, cover
it. Every reader draws those right, however it fills: COCO's and YOLO's files have no word for a
hole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .drawing import Mask, mask_box

Polygon = npt.NDArray[np.int64]
"""``[points, 2]``, x and y; the last point is joined to the first."""

# Clockwise on the screen, with the object on the right: along the upper, right, lower, left edge.
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
# From a pixel, which is known by its upper left corner, to where its edge begins.
_BEGINS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])

# Above that a mask is noise, and to look for the shortest ways would take long.
_MANY_PARTS = 64

# Distances between points that are computed together: 16 MB.
_AT_ONCE = 1 << 20


class _Outline(NamedTuple):
    """Pixel edges around a part, in order: the pixel of each, ``[edges, 2]``, and its side."""

    pixels: Polygon
    sides: npt.NDArray[np.int64]

    @property
    def corners(self) -> Polygon:
        """Where the outline turns, on the corners of pixels."""
        turns = self.sides != np.roll(self.sides, 1)
        corners: Polygon = (self.pixels + _BEGINS[self.sides])[turns]
        return corners

    @property
    def is_hole(self) -> bool:
        x, y = self.corners.T
        return bool(np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1)))


def edge_polygons(mask: Mask) -> list[Polygon]:
    """Return polygons along the edges of pixels, which cover the mask exactly.

    The corners are whole numbers from 0 to width and height: a pixel at (x, y) is the square up to
    (x + 1, y + 1), as in COCO. Pixels that touch only at a corner are in different polygons.

    Args:
        mask: bool ``[height, width]``; without a pixel there is no polygon.
    """
    return [outline.corners for outline in _parts(mask)]


def pixel_polygons(mask: Mask) -> list[Polygon]:
    """Return polygons through the outermost pixels of the mask, as OpenCV finds and fills contours.

    A part of one pixel is one point, and one of a single row two; see :func:`edge_polygons`.
    """
    return [_bends(outline.pixels) for outline in _parts(mask)]


def joined(polygons: list[Polygon]) -> Polygon:
    """Return one polygon, which goes from each of ``polygons`` to the next and back on a line.

    The lines are the shortest ones from corner to corner, unless there are very many polygons.
    They enclose nothing; readers that draw the outline draw them, too.
    """
    whole, others = polygons[0], polygons[1:]
    if len(polygons) > _MANY_PARTS:
        start = whole[:1]
        return np.concatenate([whole, start, *(p for q in others for p in (q, q[:1], start))])
    near = [_nearest(whole, other) for other in others]
    while others:
        chosen = min(range(len(others)), key=lambda i: near[i][0])
        other, (_, from_, to) = others.pop(chosen), near.pop(chosen)
        place = int(np.flatnonzero((whole == from_).all(axis=1))[0])
        begin = int(np.flatnonzero((other == to).all(axis=1))[0])
        around = np.concatenate([other[begin:], other[: begin + 1]])
        whole = np.concatenate([whole[: place + 1], around, whole[place:]])
        found = (_nearest(other, rest) for rest in others)
        near = [min(old, new, key=lambda n: n[0]) for old, new in zip(near, found, strict=True)]
    return whole


def _nearest(first: Polygon, second: Polygon) -> tuple[int, Polygon, Polygon]:
    """Return the squared distance of the closest points, and the points."""
    rows = max(1, _AT_ONCE // len(second))
    parts = (first[begin : begin + rows] for begin in range(0, len(first), rows))
    return min((_nearest_at_once(part, second) for part in parts), key=lambda found: found[0])


def _nearest_at_once(first: Polygon, second: Polygon) -> tuple[int, Polygon, Polygon]:
    distances = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    return int(distances[i, j]), first[i], second[j]


def _bends(points: Polygon) -> Polygon:
    """Leave out points that are repeated or lie on a line between their neighbours."""
    kept = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = kept - np.roll(kept, 1, axis=0), np.roll(kept, -1, axis=0) - kept
    return kept[(before != after).any(axis=1)] if len(kept) else points[:1]


def _parts(mask: Mask) -> Iterator[_Outline]:
    """Yield the outlines of parts without holes."""
    box = mask_box(mask)
    if box is not None:
        x1, y1, x2, y2 = box
        for pixels, sides in _open(mask[y1:y2, x1:x2]):
            yield _Outline(pixels + np.array([x1, y1]), sides)


def _open(mask: Mask) -> Iterator[_Outline]:
    outlines = _outlines(mask)
    holes = [int(outline.corners[:, 0].min()) for outline in outlines if outline.is_hole]
    if not holes:
        yield from outlines
        return
    # A cut along a side of the hole in the middle opens it and leaves the others in two halves.
    cut = sorted(holes)[len(holes) // 2]
    yield from _open(mask[:, :cut])
    for pixels, sides in _open(mask[:, cut:]):
        yield _Outline(pixels + np.array([cut, 0]), sides)


def _outlines(mask: Mask) -> list[_Outline]:
    """Return the outlines of all parts and holes."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    outside = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    found = [np.argwhere(inside & ~beyond)[:, ::-1] for beyond in outside]
    pixels = np.concatenate(found)
    sides = np.repeat(np.arange(4), [len(f) for f in found])
    following = _following(pixels, sides, mask.shape)
    order: list[int] = []
    begins: list[int] = []
    seen = bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        begins.append(len(order))
        edge = first
        while not seen[edge]:
            seen[edge] = True
            order.append(edge)
            edge = following[edge]
    pixels, sides = pixels[order], sides[order]
    bounds = zip(begins, [*begins[1:], len(order)], strict=True)
    return [_Outline(pixels[begin:end], sides[begin:end]) for begin, end in bounds]


def _following(pixels: Polygon, sides: npt.NDArray[np.int64], shape: tuple[int, ...]) -> list[int]:
    """Return for each edge the number of the one that begins where it ends."""
    begins = pixels + _BEGINS[sides]
    number = np.full((4, shape[1] + 1, shape[0] + 1), -1)
    number[sides, begins[:, 0], begins[:, 1]] = np.arange(len(sides))
    x, y = (begins + _STEPS[sides]).T
    following = np.full(len(sides), -1)
    # Where two objects touch at a corner, turning right stays with the same one.
    for turn in (1, 0, 3):
        following = np.where(following < 0, number[(sides + turn) % 4, x, y], following)
    return list(following.tolist())
