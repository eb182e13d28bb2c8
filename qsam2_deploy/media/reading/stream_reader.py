"""The thread that reads a stream: it opens it, decodes it, and asks again where it breaks off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ...errors import VideoError
from ..protocols import Colours
from .decoder import Decoder, OpenVideo, breaking_off, colours, pixel_aspect, reason
from .frame_clock import Arrived, FileClock, Pace
from .handover import Handover

if TYPE_CHECKING:
    from av import VideoFrame

# It ends when what it waits for is over, and harms nobody until then.
_JOIN_SECONDS = 0.5

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retry:
    """How a live stream that broke off is asked for again.

    Attributes:
        attempts: how often in a row.
        seconds: before the first attempt; twice as long before each other one.
    """

    attempts: int = 6
    seconds: float = 0.5


@dataclass(frozen=True)
class About:
    """What is known of a stream with its first frame.

    Attributes:
        live: the newest frame is handed over, not each of them.
        fps: frames per second, None if it does not say.
        pixel_aspect: of frames that are turned upright, None for squares.
        colours: what it says of them; None if they are red, green and blue.
        declared: frames of the whole, 0 if it does not say.
        has_sound: there are sound tracks.
        clock: times of the frames, unless it is live.
    """

    live: bool
    fps: float | None
    pixel_aspect: Fraction | None
    colours: Colours | None
    declared: int
    has_sound: bool
    clock: FileClock


class StreamReader:
    """Reads a stream in a thread of its own.

    Attributes:
        handover: where its frames are taken.
        about: what is known of the stream; None before its first frame.
        breaks: how often it broke off and came back.
        away: for how many seconds in all.
        ending: a sentence, if it ended before its time.
        heard: when a frame came, in seconds of this machine's clock; None while the stream is
            not open.
    """

    def __init__(self, name: str, opener: Callable[[], OpenVideo], retry: Retry) -> None:
        """Begin to read.

        Args:
            name: what messages call the stream.
            opener: opens it; called again where a live one broke off.
            retry: how often.
        """
        self.handover: Handover[Arrived] = Handover()
        self.about: About | None = None
        self.breaks = 0
        self.away = 0.0
        self.ending: str | None = None
        self.heard: float | None = None
        self._name, self._opener, self._retry = name, opener, retry
        self._failed = 0  # attempts since the last frame
        self._lost: float | None = None
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="video stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and release the stream as soon as it lets go."""
        self.handover.stop()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        try:
            video = self._opener()
            self.handover.newest = video.live
            if video.live:
                self._read_live(video)
            else:
                self._read_all(video)
        except Exception as error:  # raised again where the frames are taken
            self.handover.end(error)
        else:
            self.handover.end()

    def _read_all(self, video: OpenVideo) -> None:
        with closing(video):
            decoder = Decoder(video)
            self._pass_on(decoder)
            expected = video.stream.frames - decoder.discarded
            if self._count < expected:
                self.ending = (
                    f"{self._name} is damaged: {self._count} of {expected} frames were decoded"
                )
            elif decoder.error is not None:
                self.ending = (
                    f"{self._name} broke off after {self._count} frames: {reason(decoder.error)}"
                )
            else:
                self.ending = breaking_off(decoder, self._count, self._name)

    def _read_live(self, video: OpenVideo) -> None:
        again: OpenVideo | None = video
        while True:
            why = "it ended"
            try:
                with closing(again or self._opener()) as connected:
                    # A playlist that got its end can be read once more, but is over.
                    if not connected.live:
                        return
                    decoder = Decoder(connected)
                    self._pass_on(decoder)
                if decoder.error is not None:
                    why = reason(decoder.error)
            except VideoError as error:
                if not self._count:
                    raise
                why = str(error)
            again = None
            if not self._wait_for_another_attempt(why):
                return

    def _wait_for_another_attempt(self, why: str) -> bool:
        """Return False if there were enough, or nobody wants more."""
        if self.handover.stopped:
            return False
        if self._failed == self._retry.attempts:
            seconds = time.monotonic() - (self._lost or 0.0)
            self.ending = (
                f"{self._name} broke off, and did not come back in {self._failed} attempts "
                f"within {seconds:.1f} seconds ({why})"
            )
            return False
        if not self._failed:  # whoever waits wants to know why
            _LOGGER.warning("%s broke off (%s); trying again", self._name, why)
        wanted = self.handover.pause(self._retry.seconds * 2**self._failed)
        self._failed += 1
        return wanted

    def _pass_on(self, decoder: Decoder) -> None:
        """Hand over all frames until the stream ends or breaks off, or nobody wants more.

        Raises:
            VideoError: there is no frame, and there was none before.
        """
        video = decoder.video
        pace = Pace() if video.live and video.comes_in_pieces else None
        began = self._count
        self.heard = time.monotonic()
        with closing(decoder.frames()) as frames:
            for frame in frames:
                if pace is not None and frame.time is not None:
                    self.handover.pause(pace.wait(frame.time, time.monotonic()))
                if not self._put(video, frame, first=self._count == began):
                    return
        self.heard = None
        if not self._count:
            raise VideoError(_no_frame(self._name, decoder))
        if self._count > began:
            self._lost = time.monotonic()

    def _put(self, video: OpenVideo, frame: VideoFrame, *, first: bool) -> bool:
        self.heard = now = time.monotonic()
        if first and self._lost is not None:
            self.breaks += 1
            self.away += now - self._lost
        if self.about is None:
            self.about = _about(video, frame)
        self._failed = 0
        self._count += 1
        time_told = None if video.is_timeless else frame.time
        return self.handover.put(Arrived(frame, now, time_told, self.breaks))


def _about(video: OpenVideo, first: VideoFrame) -> About:
    return About(
        live=video.live,
        fps=video.fps,
        pixel_aspect=pixel_aspect(video, first),
        colours=colours(video, first),
        declared=video.stream.frames,
        has_sound=len(video.container.streams.audio) > 0,
        clock=FileClock(video, first),
    )


def _no_frame(name: str, decoder: Decoder) -> str:
    container = decoder.video.container
    if "mp4" in container.format.name and container.size <= 0:
        return (
            f"{name} is an .mp4 whose index stands at its end, which only a file can be read "
            "from; give the file itself, or send Matroska (ffmpeg -f matroska)"
        )
    why = "" if decoder.error is None else f" ({reason(decoder.error)})"
    if container.format.name == "webp_pipe":
        return (
            f"{name} is a WebP that FFmpeg cannot decode{why}, as it cannot animated ones; save it "
            "as a file, and give that"
        )
    return f"{name} holds no frame that can be decoded{why}; it may be damaged"
