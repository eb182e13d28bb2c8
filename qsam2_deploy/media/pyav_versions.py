"""What PyAV tells in other ways, or not at all, in its older versions."""

from __future__ import annotations

import contextlib
import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet
    from av.video.stream import VideoStream as AvStream

# libavformat/avformat.h, AV_DISPOSITION_ATTACHED_PIC.
_ATTACHED_PICTURE = 0x0400
_PICTURE_CODECS = frozenset({"bmp", "gif", "jpegxl", "mjpeg", "png", "tiff", "webp"})


def is_attached_picture(stream: AvStream) -> bool:
    """Whether a stream is the cover of a sound file or the poster of a film.

    PyAV tells the disposition from 14.1 on, as an integer or as a flag that is none. Before that,
    a cover is known by what FFmpeg gives it: a picture's codec, no frame rate, no frame count, and
    the sound that it belongs to, which a camera of JPEG pictures does not have.
    """
    disposition: Any = getattr(stream, "disposition", None)
    if disposition is not None:
        return bool(getattr(disposition, "value", disposition) & _ATTACHED_PICTURE)
    return (
        stream.codec_context.name in _PICTURE_CODECS
        and not stream.average_rate
        and not stream.frames
        and len(stream.container.streams) > 1
    )


def frame_rotation(frame: VideoFrame) -> float:
    """Return by how many degrees counterclockwise a frame is to be turned for display.

    PyAV tells it from 14.1 on. Before that it is read from the display matrix that the frame
    carries: nine integers, of which the first two are the cosine and the negative sine, scaled.
    """
    rotation: float | None = getattr(frame, "rotation", None)
    if rotation is not None:
        return rotation
    side_data: Any = frame.side_data
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0.0
    cosine, minus_sine = struct.unpack_from("=2i", bytes(matrix))
    return -math.degrees(math.atan2(minus_sine, cosine))


def frame_seconds(frame: VideoFrame) -> float | None:
    """Return for how long the file says that a frame is shown; None where it, or PyAV, does not.

    PyAV 14.0 does not.
    """
    duration: int | None = getattr(frame, "duration", None)
    if not duration or not frame.time_base:
        return None
    return float(duration * frame.time_base)


def set_packet_duration(packet: Packet[Any], duration: int) -> None:
    """Give a packet its length in units of its time base, where PyAV lets one.

    Where it does not, FFmpeg takes the distance to the next one, and for the last one the rate.
    """
    with contextlib.suppress(AttributeError):
        packet.duration = duration
