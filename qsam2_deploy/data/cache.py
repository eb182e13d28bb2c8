"""Annotated frames of many sequences in memory, at a reduced resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._progress import progress
from ..errors import InputError
from ._opencv import opencv
from .sample import Frames, Masks, VideoSequence

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


@dataclass(frozen=True)
class CachedSequence:
    """The annotated frames of a sequence, in order."""

    name: str
    frames: tuple[CachedFrame, ...]

    def starts(self) -> tuple[int, ...]:
        """Return the indices of the frames with at least one object."""
        return tuple(i for i, frame in enumerate(self.frames) if frame.objects)


def cut_out(coverage: npt.NDArray[np.uint8]) -> Cutout | None:
    """Return ``coverage`` [H, W] cut to its object and some space around it; None if empty."""
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    if not len(rows):
        return None
    y0, x0 = max(int(rows[0]) - _SPACE, 0), max(int(columns[0]) - _SPACE, 0)
    crop = coverage[y0 : rows[-1] + 1 + _SPACE, x0 : columns[-1] + 1 + _SPACE]
    return Cutout(np.ascontiguousarray(crop), x0, y0)


def _reduced(mask: Masks, width: int, height: int) -> npt.NDArray[np.uint8]:
    cv2 = opencv()
    full = np.where(mask, np.uint8(255), np.uint8(0))
    out: npt.NDArray[np.uint8] = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
    return out


def load_sequence(sequence: VideoSequence, short_side: int) -> CachedSequence:
    """Read all annotated frames, reduced so that the shorter side has at most ``short_side``."""
    cv2 = opencv()
    height, width = sequence.size
    scale = min(1.0, short_side / min(height, width))
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    frames = []
    for index in sequence.annotated:
        image = cv2.resize(sequence.frame(index), (width, height), interpolation=cv2.INTER_AREA)
        cuts = {
            number: cut_out(_reduced(mask, width, height))
            for number, mask in sorted(sequence.masks(index).items())
        }
        objects = {number: cut for number, cut in cuts.items() if cut is not None and cut.area}
        frames.append(CachedFrame(image, objects))
    return CachedSequence(sequence.name, tuple(frames))


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


class SequenceCache:
    """Sequences that are read once, when first needed, and then stay in memory.

    Call ``load`` before processes are forked, and they share the memory.
    """

    def __init__(self, sequences: Sequence[VideoSequence], short_side: int = 360) -> None:
        """Read nothing yet.

        Raises:
            InputError: there is no sequence, or ``short_side`` is not positive.
        """
        if not sequences:
            raise InputError("no annotated sequences were given, but at least one is needed")
        if short_side < 1:
            raise InputError(f"short_side must be at least 1 pixel, but is {short_side}")
        self._sequences, self._side = tuple(sequences), short_side
        self._loaded: tuple[CachedSequence, ...] | None = None

    def load(self) -> tuple[CachedSequence, ...]:
        """Return all sequences in which an object is seen.

        Raises:
            InputError: no object is seen in any of them.
        """
        if self._loaded is None:
            items = progress(
                self._sequences, "loading sequences", total=len(self._sequences), unit="sequence"
            )
            read = (load_sequence(sequence, self._side) for sequence in items)
            self._loaded = tuple(sequence for sequence in read if sequence.starts())
        if not self._loaded:
            raise InputError(
                f"no object is annotated in any of the {len(self._sequences)} sequences"
            )
        return self._loaded


def as_cache(sequences: Sequence[VideoSequence] | SequenceCache, short_side: int) -> SequenceCache:
    """Return ``sequences`` as a cache; one that is already a cache is shared, not copied."""
    if isinstance(sequences, SequenceCache):
        return sequences
    return SequenceCache(sequences, short_side)
