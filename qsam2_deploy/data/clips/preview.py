"""Contact sheets: clips as one picture, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..sample import Clip, Frames, Masks

_COLOURS = ((255, 40, 40), (40, 255, 40), (60, 120, 255), (255, 220, 0), (255, 0, 255))


def outline(mask: Masks) -> Masks:
    """Return the pixels [H, W] of ``mask`` that touch a pixel outside of it."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inside)


def contact_sheet(clips: Sequence[Clip], *, plain: bool = True) -> Frames:
    """Return clips of one size as a picture [H, W, 3] uint8: one row per clip, outlined masks.

    Args:
        clips: at least one, all of the same frame count and size.
        plain: put the frames without outlines above each row.
    """
    rows = []
    for clip in clips:
        marked = clip.frames.copy()
        for number in range(clip.masks.shape[1]):
            for frame, mask in zip(marked, clip.masks[:, number], strict=True):
                frame[outline(mask)] = _COLOURS[number % len(_COLOURS)]
        rows += [clip.frames, marked] if plain else [marked]
    return np.concatenate([np.concatenate(list(row), 1) for row in rows])
