"""Run-length encoded masks as COCO, SA-1B and SA-V store them in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import VideoError
from ..sample import Masks

_FIRST_CHARACTER = 48
_MORE = 0x20
_SIGN = 0x10
_PAYLOAD = 0x1F


def decode_rle(entry: Any, origin: str) -> Masks:
    """Return the mask [H, W] bool of a COCO run-length encoding.

    ``entry`` is ``{"size": [H, W], "counts": runs}``. Runs count background and object pixels in
    turn, down the columns; they are a list of numbers, or COCO's text: groups of five bits from
    the lowest up, from the third run on as the difference to the run before the last.

    Args:
        entry: the decoded JSON.
        origin: where it comes from, for messages.

    Raises:
        VideoError: the entry has another form, or its runs do not fill the mask.
    """
    try:
        height, width = (int(side) for side in entry["size"])
        counts = entry["counts"]
        runs = _runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise VideoError(
            f"a mask of {origin} is damaged: expected a COCO run-length encoding "
            '{"size": [height, width], "counts": ...}'
        ) from error
    if min(height, width, *runs, 0) < 0 or sum(runs) != height * width:
        raise VideoError(
            f"a mask of {origin} is damaged: its runs sum to {sum(runs)}, but it has "
            f"{height}x{width} pixels"
        )
    values = np.arange(len(runs)) % 2 == 1
    mask: Masks = np.repeat(values, runs).reshape(width, height).T.copy()
    return mask


def encode_rle(mask: Masks) -> dict[str, Any]:
    """Return the COCO run-length encoding of a mask, bool ``[H, W]``, with its runs as text."""
    pixels = mask.T.ravel()
    ends = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [pixels.size]])).tolist()
    # The first run is of background.
    runs = [0, *runs] if pixels.size and pixels[0] else runs
    return {"size": list(mask.shape), "counts": text_of_runs(runs)}


def text_of_runs(runs: Sequence[int]) -> str:
    """Return COCO's text of the runs of background and object in turn, down the columns.

    Each run, from the fourth on its difference to the run before the last, is written in groups of
    five bits from the lowest up, until only copies of the sign are left; a sixth bit says that
    there are more, and 48 makes it a printable character (``rleToString`` of COCO's API).
    """
    characters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & _PAYLOAD
            value >>= 5
            more = value != (-1 if bits & _SIGN else 0)
            characters.append(chr(bits + _FIRST_CHARACTER + (_MORE if more else 0)))
    return "".join(characters)


def _runs(text: str) -> list[int]:
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - _FIRST_CHARACTER
            value |= (bits & _PAYLOAD) << shift
            shift += 5
            position += 1
            more = bool(bits & _MORE)
        if bits & _SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
