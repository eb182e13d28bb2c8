"""Frames of sequences as photos, read when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from ..byte_cache import ByteCache
from ..sample import Frames, VideoSequence, release

PHOTOS_PER_SEQUENCE = 5
_LIMIT = 256 << 20


class Photos(Sequence[Frames]):
    """At most five frames of each sequence, evenly spread; a bounded number of them in memory."""

    def __init__(self, sequences: Sequence[VideoSequence], limit: int = _LIMIT) -> None:
        """Read nothing yet; hold at most ``limit`` bytes."""
        self._places = [(s, index) for s in sequences for index in _spread(s.frame_count)]
        self._cache = ByteCache(limit)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Frames: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Frames]: ...
    def __getitem__(self, number: int | slice) -> Frames | Sequence[Frames]:
        """Return photo ``number``, [H, W, 3] uint8 RGB.

        Raises:
            IndexError: there is no such photo.
            VideoError: its file is damaged.
        """
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        sequence, index = self._places[number]
        return self._cache.get(
            number % len(self), lambda: _read(sequence, index), lambda photo: photo.nbytes
        )


def _read(sequence: VideoSequence, index: int) -> Frames:
    photo = np.ascontiguousarray(sequence.frame(index))
    release(sequence)
    return photo


def _spread(count: int) -> list[int]:
    places = np.linspace(0, count - 1, min(PHOTOS_PER_SEQUENCE, count)).astype(int)
    return [int(place) for place in np.unique(places)]
