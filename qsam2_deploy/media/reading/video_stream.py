"""Frames of a video file in order, decoded as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
<<<<<<< HEAD
from ..protocols import Colours, RgbImage, Shown, Sound
from ..pyav_versions import frame_seconds
from .decoder import Decoder, OpenVideo, open_video, quarter_turns, rgb_from_frame
=======
from ..protocols import RgbImage, Shown, Sound
from .decoder import (
    Decoder,
    breaking_off,
    check_size,
    open_video,
    pixel_aspect,
    rgb_from_frame,
    upright_size,
)
from .frame_clock import FileClock
from .images import check_start
>>>>>>> d7084e6 (URLs, live streams, standard input and cameras by their device: live ones are tracked with their newest frame)
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
<<<<<<< HEAD
        self._origin: float | None = first.time if self._video.tells_times else 0.0
        self.pixel_aspect = _pixel_aspect(self._video, first)
        self.colours = _colours(self._video, first)
=======
        self._clock = FileClock(self._video, first)
        self.pixel_aspect = pixel_aspect(self._video, first)
>>>>>>> d7084e6 (URLs, live streams, standard input and cameras by their device: live ones are tracked with their newest frame)
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
<<<<<<< HEAD
        return None if self._declared else self._describe_missing_time(decoded)

    def _describe_missing_time(self, decoded: int) -> str | None:
        container, end = self._video.container, self._decoder.end_time
        # Sound may go on after the pictures, so the length only tells with a single stream.
        if end is None or len(container.streams) != 1:
            return None
        length = (container.duration or 0) / 1e6
        if length - end <= _MISSING_SECONDS:
            return None
        return (
            f"{self.name} breaks off after {end:.1f} of {length:.1f} seconds: "
            f"{decoded} frames were decoded"
        )

    def _past_the_end(self, count: int) -> str:
        return (
            f"cannot start at frame {self.start}: {self.name} has {count} frames, "
            f"numbered from 0 to {count - 1}"
        )

    def _size_changed(self, index: int, frame: VideoFrame) -> str:
        height, width = self._size
        return (
            f"frame {index} of {self.name} is {frame.width}x{frame.height} pixels, but the "
            f"frames before it are {width}x{height}; all frames must have the same size"
        )


def video_stream(path: Path, *, start: int = 0) -> VideoStream:
    """Return the frames of the video file ``path`` from number ``start``.

    Raises:
        VideoError: the file cannot be used.
    """
    return VideoStream(
        str(path),
        lambda: open_video(path),
        start=start,
        count=lambda: index_video(path).length,
        path=path,
    )


def _colours(video: OpenVideo, first: VideoFrame) -> Colours | None:
    """Return what the file says of its colours; None if they are red, green and blue."""
    if first.format.is_rgb:
        return None
    context = video.stream.codec_context
    said = {1: False, 2: True}.get(int(first.color_range))
    # These formats are of full range by their name.
    full = True if said is None and first.format.name.startswith("yuvj") else said
    primaries, transfer = int(context.color_primaries), int(context.color_trc)
    return Colours(int(first.colorspace), primaries, transfer, full)


def _pixel_aspect(video: OpenVideo, first: VideoFrame) -> Fraction | None:
    """Return the shape of the pixels of frames that are turned upright, None for squares."""
    aspect = video.stream.sample_aspect_ratio or video.stream.codec_context.sample_aspect_ratio
    if not aspect or aspect < 0 or aspect == 1:
        return None
    return 1 / aspect if quarter_turns(first) % 2 else aspect
=======
        return None if self._declared else breaking_off(self._decoder, decoded, self.name)
>>>>>>> d7084e6 (URLs, live streams, standard input and cameras by their device: live ones are tracked with their newest frame)
