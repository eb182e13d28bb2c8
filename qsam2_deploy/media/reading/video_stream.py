"""Frames of a video file in order, decoded as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
from ..protocols import RgbImage, Shown, Sound
from .decoder import (
    Decoder,
    breaking_off,
    check_size,
    colours,
    open_video,
    pixel_aspect,
    rgb_from_frame,
    upright_size,
)
from .frame_clock import FileClock
from .images import check_start
from .video_index import index_video

if TYPE_CHECKING:
    from av import VideoFrame


class VideoStream:
    """A :class:`TimedSource` over PyAV. Each iteration begins at ``start`` again.

    A video that breaks off gives what can be decoded; ``warning`` then says how much that was.
    """

    def __init__(self, path: Path, *, start: int = 0) -> None:
        """Open the video and decode its first frame.

        Args:
            path: the file.
            start: number of the first frame to give.

        Raises:
            VideoError: no frame can be decoded, or ``start`` is past the end.
        """
        self.name = str(path)
        self.start = start
        self.warning: str | None = None
        self._path = path
        self._to_rgb = RgbDecoder()
        self._begin()
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise VideoError(f"{path} holds no frame that can be decoded; it may be damaged")
        self._first: VideoFrame | None = first
        self._size = (first.height, first.width)
        self.height, self.width = upright_size(first)
        self.fps = self._video.fps
        self.shown: Shown | None = None
        self._clock = FileClock(self._video, first)
        self.pixel_aspect = pixel_aspect(self._video, first)
        self.colours = colours(self._video, first)
        self.sound: Sound | None = None
        if self._clock.origin is not None and self._video.container.streams.audio:
            self.sound = Sound(path, self._clock.origin)
        self._declared = self._video.stream.frames
        self.num_frames: int | None = self._declared or index_video(path).length
        try:
            check_start(start, self.num_frames, self.name)
        except VideoError:
            self.close()
            raise

    def __iter__(self) -> Iterator[RgbImage]:
        if self._first is None:
            self.close()
            self._begin()
        count = 0
        for frame in self._from_first():
            check_size(frame, self._size, count, self.name)
            if count >= self.start:
                self.shown = self._clock.shown(frame, count)
                yield rgb_from_frame(frame, self._to_rgb)
            count += 1
        self.warning = self._describe_damage(count)
        check_start(self.start, count, self.name)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()
        self._video.close()

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self) -> None:
        self._video = open_video(self._path)
        self._decoder = Decoder(self._video)
        self._frames = self._decoder.frames()

    def _from_first(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._frames

    def _describe_damage(self, decoded: int) -> str | None:
        expected = (self.num_frames or 0) - self._decoder.discarded
        if decoded < expected:
            return f"{self.name} is damaged: {decoded} of {expected} frames were decoded"
        return None if self._declared else breaking_off(self._decoder, decoded, self.name)
