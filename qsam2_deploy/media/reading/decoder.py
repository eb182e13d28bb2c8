"""Opening and decoding a video with PyAV, tolerant of damage."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
from .._optional import load_av
from ..protocols import RgbImage
from ..pyav_versions import frame_rotation, is_attached_picture

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream as AvStream

# FFmpeg reads any text or binary file with these: they draw characters, and are no videos.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})


@dataclass(frozen=True)
class OpenVideo:
    """An open container and its video stream."""

    container: InputContainer
    stream: AvStream

    @property
    def fps(self) -> float | None:
        """Average frames per second, None if the file does not say."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate else None

    @property
    def tells_times(self) -> bool:
        """Whether frames have times to rely on: AVI has the order of decoding, and one rate."""
        return self.container.format.name != "avi"

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
            f"before its index was written ({_reason(error)})"
        ) from error
    return select_stream(container, str(path))


def select_stream(container: InputContainer, name: str) -> OpenVideo:
    """Return ``container`` with its first real video stream.

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
    moving[0].thread_type = "AUTO"
    return OpenVideo(container, moving[0])


class Decoder:
    """Decodes the packets of a video from where it stands; damaged ones are counted, not fatal.

    Attributes:
        damaged: packets that could not be read or decoded.
        discarded: packets that the file marks as not to be shown.
        end_time: time after the last decoded frame in seconds, None before the first.
    """

    def __init__(self, video: OpenVideo) -> None:
        """Decode ``video``."""
        self.damaged = 0
        self.discarded = 0
        self.end_time: float | None = None
        self._video = video

    def frames(self) -> Generator[VideoFrame, None, None]:
        """Yield the frames in the order in which they are shown."""
        av = load_av()
        packets = self._video.container.demux(self._video.stream)
        while True:
            try:
                packet: Packet[AvStream] | None = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError):
                self.damaged += 1
                # The demuxer ends here, but frames wait in the decoder for their turn.
                packet = None
            yield from self._decode(packet)
            if packet is None:
                return

    def _decode(self, packet: Packet[AvStream] | None) -> Iterator[VideoFrame]:
        av = load_av()
        self.discarded += int(packet is not None and packet.is_discard)
        try:
            frames = self._video.stream.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
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


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
