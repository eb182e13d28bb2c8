"""What a source of frames looks like; Protocols, so that callers can bring their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

RgbImage = npt.NDArray[np.uint8]
"""``[height, width, 3]``, red first, upright as a viewer shows it."""


class Shown(NamedTuple):
    """When a frame is shown.

    Attributes:
        time: seconds from the first frame of the source.
        seconds: for how long the file itself says; None if it does not.
    """

    time: float
    seconds: float | None


class Colours(NamedTuple):
    """What the numbers of a video's pixels mean: numbers of ITU-T H.273, 2 where nothing is said.

    Attributes:
        matrix: from red, green and blue to what is stored, such as 1 for BT.709.
        primaries: which red, green and blue.
        transfer: from light to numbers; 16 and 18 are those of HDR, PQ and HLG.
        full_range: whether brightness is stored as 0 to 255, not as 16 to 235; None where nothing
            is said, which means 16 to 235.
    """

    matrix: int
    primaries: int
    transfer: int
    full_range: bool | None


@dataclass(frozen=True)
class Sound:
    """The sound tracks of a source.

    Attributes:
        path: the file that has them.
        origin: its time at the source's first frame, in seconds.
    """

    path: Path
    origin: float


class _Source(Protocol):
    @property
    def width(self) -> int:
        """Pixels in a row."""

    @property
    def height(self) -> int:
        """Number of rows."""

    @property
    def fps(self) -> float | None:
        """Frames per second, None where there is no such thing."""

    @property
    def warning(self) -> str | None:
        """What is wrong with the source, known after reading it; None if nothing."""

    def close(self) -> None:
        """Release the source."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class FrameSource(_Source, Protocol):
    """Frames in order, one at a time: a video, a folder, an image or a camera."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def num_frames(self) -> int | None:
        """Frames of the whole source, also those before ``start``; None if unknown."""

    @property
    def start(self) -> int:
        """Number of the frame that iteration begins with."""

    def __iter__(self) -> Iterator[RgbImage]: ...
    def __enter__(self) -> FrameSource: ...


class TimedSource(FrameSource, Protocol):
    """What a video file knows beside its frames; for other sources all of it is None."""

    @property
    def shown(self) -> Shown | None:
        """When the frame that was given last is shown."""

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Width of a pixel by its height, of the frame as it is given; None for squares."""

    @property
    def colours(self) -> Colours | None:
        """What the numbers of its pixels mean."""

    @property
    def sound(self) -> Sound | None:
        """Its sound tracks."""

    def __enter__(self) -> TimedSource: ...


class IndexedFrames(_Source, Protocol):
    """Frames by number, decoded when asked for; only a few of them are kept in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> RgbImage: ...
    def __enter__(self) -> IndexedFrames: ...
