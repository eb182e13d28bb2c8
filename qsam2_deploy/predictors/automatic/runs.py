"""Masks as runs of pixels down the columns, in the order of COCO's run-length codes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Edges = npt.NDArray[np.int64]
"""``[2 R]``, rising: where each of ``R`` runs starts, and the place after its last pixel.

Pixel ``(x, y)`` of a picture that is ``height`` pixels high has the place ``x height + y``.
"""

Mask = npt.NDArray[np.bool_]


def edges_of(part: Mask, top: int, left: int, height: int) -> Edges:
    """Return the runs of a mask of which only a part is given, and the rest is empty.

    Args:
        part: bool ``[h, w]``.
        top: row of the part's first pixel in the picture.
        left: its column.
        height: of the picture.
    """
    rows, columns = part.shape
    # One empty pixel below each column, so that no run goes on in the next one.
    flat = np.zeros(columns * (rows + 1) + 1, np.bool_)
    flat[1:].reshape(columns, rows + 1)[:, :rows] = part.T
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    column, row = np.divmod(edges, rows + 1)
    places = (left + column) * height + top + row
    return _joined(places[0::2], places[1::2])


def _joined(starts: Edges, stops: Edges) -> Edges:
    """Join runs that touch, which end at the bottom of a column and go on at the next one's top."""
    apart = starts[1:] != stops[:-1]
    if apart.all():
        return np.stack([starts, stops], axis=1).reshape(-1)
    first = np.concatenate([[True], apart])
    last = np.concatenate([apart, [True]])
    return np.stack([starts[first], stops[last]], axis=1).reshape(-1)


def counts_of(edges: Edges, pixels: int) -> list[int]:
    """Return the lengths of background and mask in turn, background first.

    They sum to ``pixels``. The first one is 0 where the mask has the picture's first pixel; no
    other is (upstream ``mask_to_rle_pytorch``).
    """
    ends = edges if len(edges) and edges[-1] == pixels else np.append(edges, pixels)
    counts: list[int] = np.diff(ends, prepend=0).tolist()
    return counts


def area_of(edges: Edges) -> int:
    """Return the mask's pixels."""
    return int((edges[1::2] - edges[0::2]).sum())


def mask_of(edges: Edges, size: tuple[int, int]) -> Mask:
    """Return the mask, bool ``[height, width]``, a view with its columns one after another."""
    height, width = size
    counts = counts_of(edges, height * width)
    inside = np.arange(len(counts)) % 2 == 1
    mask: Mask = np.repeat(inside, counts).reshape(width, height).T
    return mask
