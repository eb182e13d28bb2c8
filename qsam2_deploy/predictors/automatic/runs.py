"""Masks as runs of equal pixels: row by row while there are many, in COCO's order at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Edges = npt.NDArray[np.int64]
"""``[2 R]``, rising: where each of ``R`` runs starts, and the place after its last pixel."""


@dataclass(frozen=True)
class Part:
    """A mask of which all pixels lie in a part of the picture.

    Attributes:
        top: row of the part's first pixel in the picture.
        left: its column.
        shape: rows and columns of the part.
        edges: of the part's runs, row after row.
    """

    top: int
    left: int
    shape: tuple[int, int]
    edges: Edges

    @classmethod
    def of(cls, pixels: Mask, top: int, left: int) -> Part:
        """Make one of pixels, bool ``[rows, columns]``."""
        return cls(top, left, (pixels.shape[0], pixels.shape[1]), _edges(pixels.reshape(-1)))

    @property
    def area(self) -> int:
        """The mask's pixels."""
        return int((self.edges[1::2] - self.edges[0::2]).sum())

    def mask(self, size: tuple[int, int]) -> Mask:
        """Return the mask of the picture, bool ``[height, width]``.

        As upstream's, it is a view of an array with the columns one after another.
        """
        rows, columns = self.shape
        counts = _counts(self.edges, rows * columns)
        inside = np.arange(len(counts)) % 2 == 1
        mask: Mask = np.zeros((size[1], size[0]), np.bool_).T
        place = slice(self.top, self.top + rows), slice(self.left, self.left + columns)
        mask[place] = np.repeat(inside, counts).reshape(rows, columns)
        return mask

    def coco_counts(self, size: tuple[int, int]) -> list[int]:
        """Return the lengths of background and mask in turn, down the columns of the picture.

        They sum to its pixels. The first one is 0 where the mask has the picture's first pixel; no
        other is (upstream ``mask_to_rle_pytorch``).
        """
        flat = self.mask(size).T.reshape(-1)
        counts: list[int] = _counts(_edges(flat), len(flat)).tolist()
        return counts


def _edges(flat: Mask) -> Edges:
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begin = [0] if len(flat) and flat[0] else []
    end = [len(flat)] if len(flat) and flat[-1] else []
    return np.concatenate([begin, changes, end]).astype(np.int64)


def _counts(edges: Edges, pixels: int) -> Edges:
    """Return the lengths of background and mask in turn."""
    ends = edges if len(edges) and edges[-1] == pixels else np.append(edges, pixels)
    return np.diff(ends, prepend=0)
