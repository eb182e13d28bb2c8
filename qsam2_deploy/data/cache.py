"""Annotated frames of many sequences at a reduced resolution, as many in memory as fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ._opencv import opencv
from .byte_cache import ByteCache
from .sample import Frames, Masks, VideoSequence, release

DEFAULT_LIMIT = 1 << 30
"""Bytes of frames and masks that a cache holds."""

_OVERHEAD = 200  # bytes of a cutout besides its pixels
_SPACE = 4  # pixels around an object, so that its edge can be blurred


@dataclass(frozen=True)
class Cutout:
    """A mask without the empty space around it.

    Attributes:
        coverage: [h, w] uint8, 0 .. 255, surrounded by 4 rows and columns of zeros except where
            the frame ends.
        x0, y0: position of its first pixel in the frame.
    """

    coverage: npt.NDArray[np.uint8]
    x0: int
    y0: int

    @property
    def area(self) -> int:
        """Pixels that belong to the object."""
        return int((self.coverage > 127).sum())

    @property
    def radius(self) -> float:
        """Half the geometric mean of the sides of the object, pixels."""
        height, width = (max(side - 2 * _SPACE, 2) for side in self.coverage.shape)
        return 0.5 * float((height * width) ** 0.5)


@dataclass(frozen=True)
class CachedFrame:
    """One annotated frame: image [H, W, 3] uint8 RGB, and the objects that are seen in it."""

    image: Frames
    objects: dict[int, Cutout]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.image.shape[0], self.image.shape[1]


def cut_out(coverage: npt.NDArray[np.uint8]) -> Cutout | None:
    """Return ``coverage`` [H, W] cut to its object and some space around it; None if empty."""
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    if not len(rows):
        return None
    y0, x0 = max(int(rows[0]) - _SPACE, 0), max(int(columns[0]) - _SPACE, 0)
    crop = coverage[y0 : rows[-1] + 1 + _SPACE, x0 : columns[-1] + 1 + _SPACE]
    return Cutout(np.ascontiguousarray(crop), x0, y0)


def _reduced_frame(image: Frames, width: int, height: int) -> Frames:
    cv2 = opencv()
    out: Frames = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return out


def _reduced(mask: Masks, width: int, height: int) -> npt.NDArray[np.uint8]:
    cv2 = opencv()
    full = np.where(mask, np.uint8(255), np.uint8(0))
    out: npt.NDArray[np.uint8] = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
    return out


def object_centres(window: Sequence[CachedFrame], number: int) -> npt.NDArray[np.float64]:
    """Return the centres [T, 2] of an object, pixels; while it is absent, the last one before."""
    centres: list[tuple[float, float]] = []
    for frame in window:
        cutout = frame.objects.get(number)
        if cutout is None:
            centres.append(centres[-1])
        else:
            height, width = cutout.coverage.shape
            centres.append((cutout.x0 + width / 2, cutout.y0 + height / 2))
    return np.array(centres)


class CachedSequence:
    """The annotated frames of one sequence of a cache, in order, read when they are needed."""

    def __init__(
        self, sequence: VideoSequence, number: int, short_side: int, cache: ByteCache
    ) -> None:
        """Read nothing yet; ``number`` tells the sequence from others in ``cache``."""
        self._sequence, self._number, self._cache = sequence, number, cache
        height, width = sequence.size
        scale = min(1.0, short_side / min(height, width))
        self._width, self._height = max(round(width * scale), 1), max(round(height * scale), 1)
        self._starts: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self._sequence.name

    def __len__(self) -> int:
        return len(self._sequence.annotated)

    def starts(self) -> tuple[int, ...]:
        """Return the places of the frames with at least one object; the first call reads masks."""
        if self._starts is None:
            indices = self._sequence.annotated
            self._starts = tuple(i for i, index in enumerate(indices) if self._objects(index))
            release(self._sequence)
        return self._starts

    def frames(self, places: Sequence[int]) -> list[CachedFrame]:
        """Return the frames at some of the places 0 .. len - 1, in the order of ``places``."""
        indices = self._sequence.annotated
        # Videos are decoded forwards, and a frame that is wanted twice is read once.
        found = {
            place: CachedFrame(self._image(indices[place]), self._objects(indices[place]))
            for place in sorted(set(places))
        }
        release(self._sequence)
        return [found[place] for place in places]

    def _image(self, index: int) -> Frames:
        return self._cache.get(
            (self._number, index, "image"),
            lambda: _reduced_frame(self._sequence.frame(index), self._width, self._height),
            lambda image: image.nbytes,
        )

    def _objects(self, index: int) -> dict[int, Cutout]:
        return self._cache.get(
            (self._number, index, "objects"),
            lambda: self._cut_objects(index),
            lambda objects: sum(cut.coverage.nbytes + _OVERHEAD for cut in objects.values()),
        )

    def _cut_objects(self, index: int) -> dict[int, Cutout]:
        cuts = {
            number: cut_out(_reduced(mask, self._width, self._height))
            for number, mask in sorted(self._sequence.masks(index).items())
        }
        return {number: cut for number, cut in cuts.items() if cut is not None and cut.area}


class SequenceCache:
    """Annotated sequences whose frames are read when needed, and stay while there is room.

    What is kept never changes what is drawn: the same random numbers give the same frames.
    """

    def __init__(
        self, sequences: Sequence[VideoSequence], short_side: int = 360, limit: int = DEFAULT_LIMIT
    ) -> None:
        """Read nothing yet.

        Args:
            sequences: at least one.
            short_side: frames are reduced so that the shorter side has at most so many pixels.
            limit: bytes to hold, in each process.

        Raises:
            InputError: there is no sequence, or ``short_side`` is not positive.
        """
        if not sequences:
            raise InputError("no annotated sequences were given, but at least one is needed")
        if short_side < 1:
            raise InputError(f"short_side must be at least 1 pixel, but is {short_side}")
        self.held = ByteCache(limit)
        self._sequences = tuple(
            CachedSequence(sequence, number, short_side, self.held)
            for number, sequence in enumerate(sequences)
        )

    def sequence(self, number: int) -> CachedSequence:
        """Return sequence ``number``."""
        return self._sequences[number]

    def pick(self, rng: np.random.Generator, *, other_than: int | None = None) -> int:
        """Return the number of a random sequence in which an object is seen.

        Args:
            rng: random numbers; those that are drawn depend on the sequences alone.
            other_than: not this one, unless there is no other.

        Raises:
            InputError: no object is seen in any sequence.
        """
        left_out = other_than if self._shows_objects_besides(other_than) else None
        if left_out is None and not self._shows_objects_besides(None):
            raise InputError(
                f"no object is annotated in any of the {len(self._sequences)} sequences"
            )
        while True:
            number = self._draw(rng, left_out)
            if self._sequences[number].starts():
                return number

    def _shows_objects_besides(self, left_out: int | None) -> bool:
        return any(s.starts() for i, s in enumerate(self._sequences) if i != left_out)

    def _draw(self, rng: np.random.Generator, left_out: int | None) -> int:
        if left_out is None:
            return int(rng.integers(len(self._sequences)))
        drawn = int(rng.integers(len(self._sequences) - 1))
        return drawn + (drawn >= left_out)


def as_cache(
    sequences: Sequence[VideoSequence] | SequenceCache, short_side: int, limit: int = DEFAULT_LIMIT
) -> SequenceCache:
    """Return ``sequences`` as a cache; one that is already a cache is shared, not copied."""
    if isinstance(sequences, SequenceCache):
        return sequences
    return SequenceCache(sequences, short_side, limit)
