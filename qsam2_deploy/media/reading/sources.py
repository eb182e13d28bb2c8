"""Opening whatever the user gives as a video."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import VideoError
from ..protocols import IndexedFrames, TimedSource
from .animated_image import animation
from .camera import camera_device, camera_stream
from .image_lists import IMAGE_SUFFIXES, FrameFiles, is_pattern, list_frames, match_frames
from .images import ImageFrames
from .indexed_video import IndexedVideo
from .standard_input import NAME, open_standard_input
from .streamed_video import StreamedVideo
from .urls import exists, is_url, open_url, public_url
from .video_stream import VideoStream

STANDARD_INPUT = "-"
"""What stands for standard input in the place of a file."""


def open_frames(
    source: str | os.PathLike[str] | int, *, start: int = 0, ignore_orientation: bool = False
) -> TimedSource:
    """Open a video, a folder of images, a pattern, an image, a URL, or a camera.

    Use the result in a ``with`` block and iterate over it for uint8 ``[height, width, 3]`` RGB
    frames. Frames are decoded one at a time; of a camera and of a live URL, the newest is given.

    Args:
        source: a path, a pattern such as ``frames/*.png`` or ``frames/%05d.png``, the text of a
            URL, ``"-"`` for standard input, or a camera as its number, its device
            (``/dev/video0``) or ``v4l2:/dev/video0``.
        start: number of the first frame to give; frame numbers stay those of the source.
        ignore_orientation: leave images as they are stored instead of turning them as their EXIF
            orientation says.

    Raises:
        VideoError: the source cannot be used.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    if start < 0:
        raise VideoError(f"cannot start at frame {start}: frame numbers begin at 0")
    _check_name(source)
    if source == STANDARD_INPUT:
        return StreamedVideo(NAME, open_standard_input, start=start, patience=None)
    if isinstance(source, str) and is_url(source):
        url = source
        return StreamedVideo(public_url(url), lambda: open_url(url), start=start)
    camera = source if isinstance(source, int) else camera_device(os.fspath(source))
    if camera is not None:
        return camera_stream(camera, start=start)
    assert not isinstance(source, int)
    path = Path(source)
    moving = animation(path, start=start)
    if moving is not None:
        return moving
    found = _image_files(path, official=False)
    if found is None:
        return VideoStream(path, start=start)
    return ImageFrames(
        str(path),
        found.files,
        start=start,
        warning=found.warning,
        ignore_orientation=ignore_orientation,
    )


def open_indexed(
    source: str | os.PathLike[str],
    *,
    cache_frames: int = 16,
    ignore_orientation: bool = False,
    official: bool = False,
) -> IndexedFrames:
    """Open a video, a folder of images, a pattern or an image for access by frame number.

    Args:
        source: a path, or a pattern such as ``frames/*.png`` or ``frames/%05d.png``.
        cache_frames: how many decoded frames to keep in memory.
        ignore_orientation: leave images as they are stored instead of turning them as their EXIF
            orientation says.
        official: take only the JPEG files of a folder that has some.

    Raises:
        VideoError: the source cannot be used.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    _check_name(source)
    if isinstance(source, str) and (source == STANDARD_INPUT or is_url(source)):
        name = NAME if source == STANDARD_INPUT else public_url(source)
        raise VideoError(f"{name} cannot be read by frame number; save it as a file, and give that")
    path = Path(source)
    moving = animation(path, cache_frames=cache_frames)
    if moving is not None:
        return moving
    found = _image_files(path, official=official)
    if found is None:
        return IndexedVideo(path, cache_frames=cache_frames)
    return ImageFrames(
        str(path),
        found.files,
        cache_frames=cache_frames,
        warning=found.warning,
        ignore_orientation=ignore_orientation,
    )


def source_from_text(text: str) -> Path | str | int:
    """Return what a command line argument means.

    A bare integer is a camera, ``-`` is standard input, and a URL stays a text, because a path
    would lose one of its slashes. All else is a path, and so is whatever exists as a file.

    Raises:
        VideoError: it is empty.
    """
    _check_name(text)
    if exists(text):
        return Path(text)
    if text.isdecimal():
        return int(text)
    return text if text == STANDARD_INPUT or is_url(text) else Path(text)


def _check_name(source: object) -> None:
    # A path would make the current folder of it, as of a variable that a shell script never set.
    if source == "":
        raise VideoError("the name of the video is empty; give a video, a folder or an image")


def name_of(source: str | os.PathLike[str] | int) -> str:
    """Return how a source is called in results, without passwords."""
    if isinstance(source, int):
        return f"camera {source}"
    text = os.fspath(source)
    return public_url(text) if is_url(text) else text


def _image_files(path: Path, *, official: bool) -> FrameFiles | None:
    """Return the image files that ``path`` stands for, or None if it is a video."""
    if path.is_dir():
        return list_frames(path, official=official)
    if is_pattern(path):
        return match_frames(path)
    return FrameFiles([path]) if path.suffix.lower() in IMAGE_SUFFIXES else None
