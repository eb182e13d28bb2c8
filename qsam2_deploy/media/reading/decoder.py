"""Opening and decoding a video with PyAV, tolerant of damage."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
from .._optional import load_av
from ..protocols import Colours, RgbImage
from ..pyav_versions import frame_rotation, is_attached_picture

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream as AvStream

# FFmpeg reads any text or binary file with these: they draw characters, and are no videos.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})

PLAYLISTS = frozenset({"hls", "dash"})
"""Formats that are lists of files; the length of the list itself says nothing."""

# Formats that tell no times. FFmpeg gives them 25 frames per second, which no camera keeps to.
_TIMELESS = frozenset({"h264", "hevc", "m4v", "mjpeg", "mpegvideo", "mpjpeg", "obu"})

# A file without a frame count is called cut off if so many seconds of it are missing.
_MISSING_SECONDS = 1.0


@dataclass(frozen=True)
class OpenVideo:
    """An open container and its video stream.

    Attributes:
        container: as PyAV has it.
        stream: as PyAV has it.
        live: it goes on while nobody reads it.
    """

    container: InputContainer
    stream: AvStream
    live: bool = False

    @property
    def fps(self) -> float | None:
        """Average frames per second, None if the file does not say."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate else None

    @property
    def tells_times(self) -> bool:
        """Whether frames have times to rely on: AVI has the order of decoding, and one rate."""
        return self.container.format.name != "avi"

    @property
    def is_timeless(self) -> bool:
        """Whether the times of its frames are made up by FFmpeg."""
        name = self.container.format.name
        return name in _TIMELESS or name.endswith("_pipe")

    @property
    def comes_in_pieces(self) -> bool:
        """Whether it is a list of files, each of which comes at once."""
        return self.container.format.name in PLAYLISTS

    def close(self) -> None:
        """Close the file."""
        self.container.close()


def open_video(path: Path) -> OpenVideo:
    """Open a video file for decoding.

    Raises:
        VideoError: there is no such file, it is no video, or it has sound only.
    """
    av = load_av()
    if not path.exists():
        raise VideoError(f"there is no file {path}; give a video, a folder of frames or an image")
    try:
        # The prefix keeps a colon in the name from being read as a network protocol.
        container = av.open(f"file:{path}")
    except PermissionError as error:
        raise VideoError(f"cannot read {path}: permission denied") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"cannot read {path} as a video; it is in another format, or it was cut off "
            f"before its index was written ({reason(error)})"
        ) from error
    return select_stream(container, str(path))


def select_stream(container: InputContainer, name: str, *, live: bool = False) -> OpenVideo:
    """Return ``container`` with its first real video stream.

    Decoding in threads that take a frame each shows every frame late, so a ``live`` one is not.

    Raises:
        VideoError: it has none; the container is closed.
    """
    streams = [] if container.format.name in _TEXT_FORMATS else list(container.streams.video)
    # A cover picture in a sound file is a video stream too, but not one to segment.
    moving = [s for s in streams if not is_attached_picture(s)]
    if not moving:
        sound = len(container.streams.audio) > 0
        container.close()
        what = "it holds sound only" if sound else "it holds no pictures, or it was cut off"
        raise VideoError(f"{name} is not a video: {what}; give a video such as an .mp4 file")
    moving[0].thread_type = "SLICE" if live else "AUTO"
    return OpenVideo(container, moving[0], live)


class Decoder:
    """Decodes the packets of a video from where it stands; damaged ones are counted, not fatal.

    Attributes:
        video: what is decoded.
        damaged: packets that could not be read or decoded.
        discarded: packets that the file marks as not to be shown.
        error: what the file broke off with, None if it did not.
        end_time: time after the last decoded frame in seconds, None before the first.
    """

    def __init__(self, video: OpenVideo) -> None:
        """Decode ``video``."""
        self.damaged = 0
        self.discarded = 0
        self.error: BaseException | None = None
        self.end_time: float | None = None
        self.video = video

    def frames(self) -> Generator[VideoFrame, None, None]:
        """Yield the frames in the order in which they are shown."""
        av = load_av()
        packets = self.video.container.demux(self.video.stream)
        while True:
            try:
                packet: Packet[AvStream] | None = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self.damaged += 1
                self.error = error
                # The demuxer ends here, but frames wait in the decoder for their turn.
                packet = None
            yield from self._decode(packet)
            if packet is None:
                return

    def _decode(self, packet: Packet[AvStream] | None) -> Iterator[VideoFrame]:
        av = load_av()
        self.discarded += int(packet is not None and packet.is_discard)
        try:
            frames = self.video.stream.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            if packet is None and not frame.time_base:  # PyAV 14 takes it from the packet
                frame.time_base = self.video.stream.time_base
            if frame.time is not None:
                self.end_time = frame.time
            yield frame


def rgb_from_frame(frame: VideoFrame, to_rgb: RgbDecoder) -> RgbImage:
    """Return a decoded frame as uint8 ``[height, width, 3]``, turned upright.

    ``to_rgb`` converts the colours; keep it from frame to frame. A rotation in the file's
    display matrix is honoured in quarter turns; PyAV gives it in degrees counterclockwise.
    """
    pixels = to_rgb(frame)
    quarters = quarter_turns(frame)
    if quarters:
        return np.ascontiguousarray(np.rot90(pixels, quarters))
    return pixels


def quarter_turns(frame: VideoFrame) -> int:
    """Return by how many quarters counterclockwise a frame is to be turned, 0 to 3."""
    return round(frame_rotation(frame) / 90) % 4


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Return height and width of a frame that is turned upright."""
    size = (frame.height, frame.width)
    return size[::-1] if quarter_turns(frame) % 2 else size


def colours(video: OpenVideo, first: VideoFrame) -> Colours | None:
    """Return what the file says of its colours; None if they are red, green and blue."""
    if first.format.is_rgb:
        return None
    context = video.stream.codec_context
    said = {1: False, 2: True}.get(int(first.color_range))
    # These formats are of full range by their name.
    full = True if said is None and first.format.name.startswith("yuvj") else said
    primaries, transfer = int(context.color_primaries), int(context.color_trc)
    return Colours(int(first.colorspace), primaries, transfer, full)


def pixel_aspect(video: OpenVideo, first: VideoFrame) -> Fraction | None:
    """Return the shape of the pixels of frames that are turned upright, None for squares."""
    aspect = video.stream.sample_aspect_ratio or video.stream.codec_context.sample_aspect_ratio
    if not aspect or aspect < 0 or aspect == 1:
        return None
    return 1 / aspect if quarter_turns(first) % 2 else aspect


def check_size(frame: VideoFrame, size: tuple[int, int], index: int, name: str) -> None:
    """Check that frame ``index`` is as large as those before it, height and width as stored.

    Raises:
        VideoError: it is not.
    """
    if (frame.height, frame.width) != size:
        height, width = size
        raise VideoError(
            f"frame {index} of {name} is {frame.width}x{frame.height} pixels, but the "
            f"frames before it are {width}x{height}; all frames must have the same size"
        )


def breaking_off(decoder: Decoder, decoded: int, name: str) -> str | None:
    """Say that a video ended long before its time, None if it did not or nobody knows."""
    container, end = decoder.video.container, decoder.end_time
    # Sound may go on after the pictures, so the length only tells with a single stream.
    if end is None or len(container.streams) != 1:
        return None
    length = (container.duration or 0) / 1e6
    if length - end <= _MISSING_SECONDS:
        return None
    return (
        f"{name} breaks off after {end:.1f} of {length:.1f} seconds: {decoded} frames were decoded"
    )


def reason(error: BaseException) -> str:
    """Return what an error of PyAV or of the system says, without the name of the file."""
    if isinstance(error, load_av().error.ExitError):
        return "it fell silent"  # a time limit, which FFmpeg calls an exit
    return str(getattr(error, "strerror", None) or error)
