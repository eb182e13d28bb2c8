"""Frames of a camera, through Video4Linux."""

from __future__ import annotations

import sys
from pathlib import Path

from ...errors import VideoError
from .._optional import load_av
from .decoder import OpenVideo, select_stream
from .video_stream import VideoStream

_DEVICES = Path("/dev")


def camera_stream(index: int) -> VideoStream:
    """Return the frames of camera ``index``, that is ``/dev/video<index>``; they never end.

    Raises:
        VideoError: this is not Linux, there is no such camera, or it cannot be used.
    """
    return VideoStream(f"camera {index}", lambda: _open(index))


def _open(index: int) -> OpenVideo:
    if not sys.platform.startswith("linux"):
        raise VideoError(
            f"camera {index} cannot be opened: cameras are only supported on Linux; "
            "give a video file instead"
        )
    device = _DEVICES / f"video{index}"
    if not device.exists():
        raise VideoError(f"there is no camera {index} ({device} is absent); {_found()}")
    av = load_av()
    try:
        container = av.open(str(device), format="v4l2")
    except PermissionError as error:
        raise VideoError(
            f"cannot open camera {index}: permission denied on {device}; "
            "add the user to the group 'video'"
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot open camera {index} ({device}): {getattr(error, 'strerror', error)}; "
            "it may be in use, or not a camera"
        ) from error
    return select_stream(container, f"camera {index}")


def _found() -> str:
    numbers = sorted(int(p.name[5:]) for p in _DEVICES.glob("video*") if p.name[5:].isdecimal())
    if not numbers:
        return "no camera is connected"
    return f"there are: {', '.join(map(str, numbers))}"
