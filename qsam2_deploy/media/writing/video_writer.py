"""Writing an H.264 video with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..._common.files import describe_os_error
from ..._common.rgb import RgbEncoder
from ...errors import InputError, VideoError
from .._optional import load_av
from ..protocols import RgbImage
from .pending_file import PendingFile

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream as AvStream

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv"})
DEFAULT_FPS = 24.0

# In order of preference; builds of FFmpeg without x264 have one of the others.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {}),
    ("mpeg4", {}),
)
_BT709 = 1


class VideoWriter:
    """Writes frames of one size to a video; use it in a ``with`` block.

    The file gets its name in :meth:`close`, also after an error or Ctrl-C, with what was written
    until then. If nothing was written, or the disk was full, no file is left.
    """

    def __init__(self, path: Path, *, height: int, width: int, fps: float | None) -> None:
        """Open ``path`` for frames of ``height`` by ``width`` pixels.

        Odd sizes get one more row or column, because H.264 stores colours for 2x2 pixels.

        Raises:
            InputError: the folder is absent or cannot be written to.
            VideoError: the name's suffix is none of ``VIDEO_SUFFIXES``.
        """
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise VideoError(
                f"cannot write the video {path}: its name must end in .mp4, .mov or .mkv"
            )
        load_av()
        self.path = path
        self.frames_written = 0
        self._shape = (height, width, 3)
        self._rate = _frame_rate(fps)
        self._file: PendingFile | None = PendingFile(path)
        self._container: OutputContainer | None = None
        self._stream: AvStream | None = None
        self._to_yuv = RgbEncoder()

    def write(self, frame: RgbImage) -> None:
        """Append a uint8 RGB frame ``[height, width, 3]``.

        Raises:
            VideoError: the frame has another shape or type, or the encoder fails.
            InputError: the disk is full.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise VideoError(
                f"a frame for {self.path} must be uint8 of shape {self._shape}, "
                f"but got {frame.dtype} of shape {frame.shape}"
            )
        if self._file is None:
            raise VideoError(f"{self.path} is closed; no more frames can be written")
        with self._errors():
            if self._container is None:
                self._open(self._file.temporary)
            self._encode(frame)
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file and give it its name; without frames, leave no file.

        Raises:
            VideoError: the encoder fails.
            InputError: the disk is full.
        """
        if self._file is None:
            return
        if self._container is None or self.frames_written == 0:
            self._abandon()
            return
        with self._errors():
            self._encode(None)
            self._container.close()
        pending, self._file = self._file, None
        pending.commit()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, path: Path) -> None:
        av = load_av()
        self._container = av.open(f"file:{path}", "w", options=_container_options(path))
        name, options = _encoder()
        stream = cast("AvStream", self._container.add_stream(name, rate=self._rate))
        stream.options = dict[str, object](options)
        height, width = self._shape[:2]
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1
        self._stream = stream

    def _encode(self, frame: RgbImage | None) -> None:
        """Encode one frame, or with None those that the encoder still holds."""
        assert self._container is not None
        assert self._stream is not None
        picture = None if frame is None else self._to_yuv(_even(frame))
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def _abandon(self) -> None:
        """Remove what was written."""
        pending, self._file = self._file, None
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except (OSError, load_av().FFmpegError):
            pass  # The file goes anyway; the first error is the one to tell.
        finally:
            if pending is not None:
                pending.discard()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn failures into sentences, and leave no file behind them."""
        try:
            yield
        except OSError as error:
            self._abandon()
            raise InputError(describe_os_error(error, self.path)) from error
        except load_av().FFmpegError as error:
            self._abandon()
            raise VideoError(f"cannot encode the video {self.path}: {error}") from error


def _even(frame: RgbImage) -> RgbImage:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _frame_rate(fps: float | None) -> Fraction:
    if fps is None or not 0.1 <= fps <= 1000:
        fps = DEFAULT_FPS
    return Fraction(fps).limit_denominator(1001)  # 29.97 is 30000/1001


def _encoder() -> tuple[str, dict[str, str]]:
    av = load_av()
    for name, options in _ENCODERS:
        if name in av.codecs_available:
            return name, dict(options)
    raise VideoError("this build of PyAV has no H.264 encoder; install the one from PyPI")


def _container_options(path: Path) -> dict[str, str]:
    # The index at the front lets players and browsers begin before they have the whole file.
    return {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
