"""Frames that come in their own time: of live streams, of cameras, and through a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
from ..protocols import RgbImage, Shown, Sound
from .decoder import OpenVideo, check_size, rgb_from_frame, upright_size
from .frame_clock import Arrived, StreamClock
from .images import check_start
from .stream_reader import About, Retry, StreamReader

FIRST_FRAME_SECONDS = 30.0
"""After which a stream is given up that sends nothing but sound, or frames without a beginning."""

SILENT_SECONDS = 20.0
"""After which a device counts as gone. Drivers may wait forever; the network has earlier limits."""


class StreamedVideo:
    """A :class:`TimedSource` that is read in a thread of its own.

    Of a live stream the newest frame is given, the others are counted, and it is asked for again
    if it breaks off. Of everything else each frame is given. What was read cannot be read again:
    another iteration goes on where the last one stopped. No sound is kept.
    """

    sound: Sound | None = None

    def __init__(
        self,
        name: str,
        opener: Callable[[], OpenVideo],
        *,
        start: int = 0,
        patience: float | None = FIRST_FRAME_SECONDS,
        retry: Retry | None = None,
    ) -> None:
        """Open the video and wait for its first frame.

        Args:
            name: what messages call it.
            opener: opens it, in the thread that reads; called again where a live one broke off.
            start: number of the first frame to give.
            patience: seconds to wait for the first frame, None for as long as it takes.
            retry: how often ``opener`` is called again.

        Raises:
            VideoError: no frame comes, ``start`` is past the end, or the stream is live and there
                is a ``start``.
        """
        self.name = name
        self.start = start
        self.shown: Shown | None = None
        self._given = 0
        self._to_rgb = RgbDecoder()
        self._live_clock = StreamClock()
        self._reader = StreamReader(name, opener, retry or Retry())
        try:
            self._about = self._first_frame(patience)
        except BaseException:  # Ctrl-C, too
            self.close()
            raise

    @property
    def fps(self) -> float | None:
        """Frames per second, None if it does not say."""
        return self._about.fps

    @property
    def warning(self) -> str | None:
        """What was left out or is missing until now."""
        return "; ".join(self._remarks()) or None

    def __iter__(self) -> Iterator[RgbImage]:
        while (arrived := self._next()) is not None:
            index = self._given
            check_size(arrived.frame, self._size, index, self.name)
            self._given += 1
            shown = self._when(arrived, index)
            if index >= self.start:
                self.shown = shown
                yield rgb_from_frame(arrived.frame, self._to_rgb)
        if not self._reader.handover.stopped:
            check_start(self.start, self._given, self.name)

    def stop(self) -> None:
        """End the iteration at once, in whatever thread it waits; for a signal handler."""
        self._reader.handover.stop()

    def close(self) -> None:
        """Stop reading, and release the stream as soon as it lets go."""
        self._reader.close()

    def __enter__(self) -> StreamedVideo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _first_frame(self, patience: float | None) -> About:
        arrived, about = self._reader.handover.peek(patience), self._reader.about
        if arrived is None or about is None:
            raise VideoError(
                f"{self.name} gave no picture within {patience:g} seconds; is it the right one?"
            )
        if about.live and self.start:
            raise VideoError(
                f"{self.name} is live, and always starts with its next frame; leave out the start"
            )
        frame = arrived.frame
        self._size = (frame.height, frame.width)
        self.height, self.width = upright_size(frame)
        self.pixel_aspect = about.pixel_aspect
        self.colours = about.colours
        self.num_frames = None if about.live else about.declared or None
        if self.num_frames is not None:
            check_start(self.start, self.num_frames, self.name)
        return about

    def _next(self) -> Arrived | None:
        """Wait for a frame; None at the end."""
        handover = self._reader.handover
        while self._about.live and handover.peek(SILENT_SECONDS) is None:
            heard = self._reader.heard
            if handover.ended or handover.stopped:
                break
            if heard is not None and time.monotonic() - heard > SILENT_SECONDS:
                raise VideoError(
                    f"{self.name} gave no frame for {SILENT_SECONDS:g} seconds; "
                    "is it still connected?"
                )
        return handover.take()

    def _when(self, arrived: Arrived, index: int) -> Shown | None:
        if self._about.live:
            return Shown(self._live_clock.shown(arrived), None)
        return self._about.clock.shown(arrived.frame, index)

    def _remarks(self) -> Iterator[str]:
        left, reader = self._reader.handover.left_out, self._reader
        if left:
            yield (
                f"{left} of {left + self._given} frames of {self.name} were left out, because "
                "tracking was slower than the stream"
            )
        if reader.breaks:
            times = "once" if reader.breaks == 1 else f"{reader.breaks} times"
            yield f"{self.name} broke off {times}, and was away for {reader.away:.1f} seconds"
        if reader.ending is not None:
            yield reader.ending
        if self._about.has_sound:
            yield f"the sound of {self.name} is left out: only that of files is copied"
