"""Frames of a camera, through Video4Linux."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from ...errors import VideoError
from .._optional import load_av
from .decoder import OpenVideo, reason, select_stream
from .streamed_video import StreamedVideo
from .urls import OPEN_SECONDS, READ_SECONDS

_DEVICES = Path("/dev")

# Linux, admin-guide/devices: the major number of Video4Linux devices.
_VIDEO4LINUX = 81
_PREFIX = "v4l2:"


def camera_device(source: str | Path) -> Path | None:
    """Return the device that ``/dev/video0`` or ``v4l2:/dev/video0`` names, None if it is none.

    Links to a camera, such as those in ``/dev/v4l/by-id``, are cameras, too.
    """
    text = str(source)
    if text.startswith(_PREFIX) and not Path(text).exists():
        return Path(text.removeprefix(_PREFIX))
    path = Path(text)
    named = path.parent == _DEVICES and re.fullmatch("video[0-9]+", path.name) is not None
    return path if named or _is_camera(path) else None


def camera_stream(camera: int | Path, *, start: int = 0) -> StreamedVideo:
    """Return the newest frames of a camera by its number or its device; they never end.

    Raises:
        VideoError: this is not Linux, there is no such camera, it cannot be used, or there is a
            ``start``.
    """
    name = f"camera {camera}"
    if start:
        raise VideoError(f"{name} always starts with its next frame; leave out the start")
    device = _DEVICES / f"video{camera}" if isinstance(camera, int) else camera
    return StreamedVideo(name, lambda: _open(device, name))


def _open(device: Path, name: str) -> OpenVideo:
    if not sys.platform.startswith("linux"):
        raise VideoError(
            f"{name} cannot be opened: cameras are only supported on Linux; "
            "give a video file instead"
        )
    if not device.exists():
        raise VideoError(f"there is no {name} ({device} is absent); {_found()}")
    av = load_av()
    try:
        container = av.open(str(device), format="v4l2", timeout=(OPEN_SECONDS, READ_SECONDS))
    except PermissionError as error:
        raise VideoError(
            f"cannot open {name}: permission denied on {device}; add the user to the group 'video'"
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot open {name} ({device}): {reason(error)}; it may be in use, or not a camera"
        ) from error
    return select_stream(container, name, live=True)


def _is_camera(path: Path) -> bool:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _VIDEO4LINUX


def _found() -> str:
    numbers = sorted(int(p.name[5:]) for p in _DEVICES.glob("video*") if p.name[5:].isdecimal())
    if not numbers:
        return "no camera is connected"
    return f"there are: {', '.join(map(str, numbers))}"
