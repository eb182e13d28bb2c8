"""Writing a video with PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..._common.files import describe_os_error
from ..._common.rgb import RgbEncoder
from ...errors import InputError, VideoError
from .._optional import load_av
from ..protocols import Colours, RgbImage, Shown, Sound
from ..pyav_versions import set_packet_duration
from .encodings import encoding_of
from .frame_times import FrameTimes
from .palette_frames import PaletteEncoder
from .pending_file import PendingFile
from .sound_copy import SoundCopy

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream as AvStream

DEFAULT_FPS = 24.0

BT709 = Colours(1, 1, 1, full_range=False)
"""Colours of a video that is made of pictures in red, green and blue."""

# AVColorRange of libavutil/pixfmt.h.
_RANGE_NUMBERS = {None: 0, False: 1, True: 2}


class VideoWriter:
    """Writes frames of one size to a video; use it in a ``with`` block.

    The file gets its name in :meth:`close`, also after an error or Ctrl-C, with what was written
    until then. If nothing was written, or the disk was full, no file is left.
    """

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        fps: float | None,
        pixel_aspect: Fraction | None = None,
        colours: Colours | None = None,
        sound: Sound | None = None,
        alpha: bool = False,
    ) -> None:
        """Open ``path`` for frames of ``height`` by ``width`` pixels.

        The name's suffix says what it is: H.264 in .mp4, .mov and .mkv, VP9 in .webm, or an
        animated .gif or .webp; with ``alpha`` VP9 in .webm or ProRes in .mov. Odd sizes get one
        more row or column where colours are stored for 2x2 pixels.

        Args:
            path: the video.
            height: in pixels.
            width: in pixels.
            fps: frames per second, for frames without a time.
            pixel_aspect: width of a pixel by its height, None for squares.
            colours: how to store and to tag them, so that players show them as those of the
                source; None for BT.709.
            sound: tracks to copy beside the pictures.
            alpha: frames have a fourth channel, 255 where they are opaque.

        Raises:
            InputError: the folder is absent or cannot be written to.
            VideoError: the name's suffix is another one.
        """
        self._encoding = encoding_of(path, alpha=alpha)
        load_av()
        self.path = path
        self.frames_written = 0
        self._shape = (height, width, 4 if alpha else 3)
        self.warning: str | None = None
        self._rate = _frame_rate(fps)
        self._aspect = pixel_aspect
        self._colours = colours or BT709
        self._wanted_sound = sound if self._encoding.sound else None
        self._sound: SoundCopy | None = None
        self._times = FrameTimes(self._rate)
        self._held: tuple[VideoFrame, float | None] | None = None
        self._lengths: dict[int, int] = {}
        self._file: PendingFile | None = PendingFile(path)
        self._container: OutputContainer | None = None
        self._stream: AvStream | None = None
        self._to_picture = self._converter()

    def write(self, frame: RgbImage, shown: Shown | None = None) -> None:
        """Append a uint8 RGB frame ``[height, width, 3]``, to be shown when the source shows it.

        With ``alpha`` it is RGBA, ``[height, width, 4]``. Without a time it follows the one before
        at the constant rate. One that a GIF cannot show so soon after the one before is left out.

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
                self._open(self._file.temporary, shown)
            self._append(frame, shown)
        self.frames_written += 1

    def close(self, *, all_sound: bool = False) -> None:
        """Finish the file and give it its name; without frames, leave no file.

        Args:
            all_sound: copy also the sound after the last frame.

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
            self._finish(all_sound)
            self._container.close()
        self._close_sound()
        pending, self._file = self._file, None
        pending.commit()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _converter(self) -> Callable[[RgbImage], VideoFrame]:
        if self._encoding.pixel_format == "pal8":
            return PaletteEncoder()
        return RgbEncoder(
            self._encoding.pixel_format,
            matrix=self._colours.matrix,
            full_range=bool(self._colours.full_range),
        )

    def _open(self, path: Path, shown: Shown | None) -> None:
        av = load_av()
        name, options = self._encoding.choose(timed=shown is not None)
        self._container = av.open(
            f"file:{path}",
            "w",
            format=self._encoding.container,
            options=dict(self._encoding.container_options),
        )
        stream = cast("AvStream", self._container.add_stream(name, rate=self._rate))
        stream.options = dict[str, object](options)
        height, width = self._shape[:2]
        if self._encoding.is_yuv:
            height, width = height + height % 2, width + width % 2
        stream.height, stream.width = height, width
        stream.pix_fmt = self._encoding.pixel_format
        context = stream.codec_context
        context.time_base = self._times.time_base
        if self._encoding.is_yuv:
            context.colorspace = self._colours.matrix
            context.color_primaries = self._colours.primaries
            context.color_trc = self._colours.transfer
            context.color_range = _RANGE_NUMBERS[self._colours.full_range]
        if self._aspect is not None and self._encoding.is_yuv:
            context.sample_aspect_ratio = self._aspect
        self._stream = stream
        if self._wanted_sound is not None:
            self._add_sound(self._wanted_sound, path, shown)

    def _add_sound(self, sound: Sound, path: Path, shown: Shown | None) -> None:
        """Add the tracks that the file can hold; where it takes none of them, open it again."""
        assert self._container is not None
        begin = 0.0 if shown is None else shown.time
        try:
            self._sound = SoundCopy(sound, self._container, begin=begin)
            self._container.start_encoding()  # writes the header, which some tracks do not fit
            refused = self._sound.refused
        except (load_av().FFmpegError, ValueError) as error:
            self._close_sound()
            with contextlib.suppress(load_av().FFmpegError):
                self._container.close()
            self._wanted_sound, refused = None, [getattr(error, "strerror", None) or str(error)]
            self._open(path, shown)
        if refused:
            self.warning = (
                f"{self.path} cannot hold the sound of the input ({', '.join(refused)}), so it is "
                "left out; try a name that ends in .mkv"
            )

    def _append(self, frame: RgbImage, shown: Shown | None) -> None:
        """Encode the frame before, whose length is known now, and hold this one back."""
        place = self._times.place(None if shown is None else shown.time)
        if self._held is not None and self._is_too_soon(place):
            return
        picture = self._to_picture(_even(frame) if self._encoding.is_yuv else frame)
        picture.pts, picture.time_base = place, self._times.time_base
        self._encode_held(place)
        self._held = picture, None if shown is None else shown.seconds

    def _is_too_soon(self, place: int) -> bool:
        assert self._held is not None
        distance = place - cast("int", self._held[0].pts)
        return distance * self._times.time_base < self._encoding.closest

    def _encode_held(self, end: int | None) -> None:
        if self._held is None:
            return
        (picture, seconds), self._held = self._held, None
        begin = cast("int", picture.pts)
        end = begin + self._times.length(seconds) if end is None else end
        self._lengths[begin] = end - begin
        self._encode(picture)
        if self._sound is not None:
            self._sound.advance(float(end * self._times.time_base))

    def _encode(self, picture: VideoFrame | None) -> None:
        """Encode one frame, or with None those that the encoder still holds."""
        assert self._container is not None
        assert self._stream is not None
        for packet in self._stream.encode(picture):
            length = self._lengths.pop(cast("int", packet.pts), None)
            if length is not None:
                set_packet_duration(packet, length)
            self._container.mux(packet)

    def _finish(self, all_sound: bool) -> None:
        self._encode_held(None)
        self._encode(None)
        if self._sound is not None and all_sound:
            self._sound.advance(None)

    def _close_sound(self) -> None:
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.close()

    def _abandon(self) -> None:
        """Remove what was written."""
        pending, self._file = self._file, None
        container, self._container = self._container, None
        self._held = None
        self._close_sound()
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
