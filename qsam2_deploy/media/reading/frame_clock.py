"""When frames are shown, counted from the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..protocols import Shown
from ..pyav_versions import frame_seconds

if TYPE_CHECKING:
    from av import VideoFrame

    from .decoder import OpenVideo

# Seconds by which a live stream may be before or behind its time: some send so much at once.
_EARLY = 20.0


class Arrived(NamedTuple):
    """A frame, and when it came.

    Attributes:
        frame: as decoded.
        seconds: of this machine's clock.
        time: of the stream in seconds, None if it tells none.
        breaks: how often the stream broke off before.
    """

    frame: VideoFrame
    seconds: float
    time: float | None
    breaks: int


class FileClock:
    """Times of the frames of one file, as it tells them.

    Attributes:
        origin: the file's time of its first frame in seconds, None if it tells no times.
    """

    def __init__(self, video: OpenVideo, first: VideoFrame) -> None:
        """Count from ``first``, the first frame of ``video``."""
        self.origin: float | None = first.time if video.tells_times else 0.0
        self._tells_times = video.tells_times
        self._fps = video.fps

    def shown(self, frame: VideoFrame, number: int) -> Shown | None:
        """Return when frame ``number`` is shown, None if nobody knows."""
        if not self._tells_times:
            return Shown(number / self._fps, None) if self._fps else None
        if self.origin is None or frame.time is None:
            return None
        return Shown(frame.time - self.origin, frame_seconds(frame))


class StreamClock:
    """Times of the frames of a live stream, which may break off and come back with other times.

    Distances are those of the stream. Where it tells none, or they cannot be (they go back, or
    are far ahead of the time that has passed), the time that has passed counts.
    """

    def __init__(self) -> None:
        """Begin with the next frame."""
        self._shown = 0.0
        self._before: Arrived | None = None

    def shown(self, frame: Arrived) -> float:
        """Return when a frame is shown, in seconds from the first one."""
        before, self._before = self._before, frame
        if before is not None:
            passed = frame.seconds - before.seconds
            told = before.breaks == frame.breaks and None not in (before.time, frame.time)
            step = (frame.time or 0.0) - (before.time or 0.0) if told else passed
            self._shown += step if 0 < step < passed + _EARLY else passed
        return self._shown


class Pace:
    """Lets frames that come many at once, as live playlists send them, go on in their own time."""

    def __init__(self) -> None:
        """Begin with the next frame."""
        self._origin: float | None = None

    def wait(self, time: float, now: float) -> float:
        """Return how many seconds to wait with a frame of this ``time``, at the time ``now``."""
        if self._origin is None or abs(time - now - self._origin) > _EARLY:
            self._origin = time - now
        return max(0.0, time - now - self._origin)
