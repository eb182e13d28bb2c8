"""Opening whatever the user gives as a video."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import VideoError
from ..protocols import IndexedFrames, TimedSource
from .animated_image import animation
from .camera import camera_stream
from .image_lists import IMAGE_SUFFIXES, FrameFiles, is_pattern, list_frames, match_frames
from .images import ImageFrames
from .indexed_video import IndexedVideo
from .video_stream import video_stream


def open_frames(
    source: str | os.PathLike[str] | int, *, start: int = 0, ignore_orientation: bool = False
) -> TimedSource:
    """Open a video, a folder of images, a pattern, an image, or a camera by its number.

    Use the result in a ``with`` block and iterate over it for uint8 ``[height, width, 3]`` RGB
    frames. Frames are decoded one at a time.

    Args:
        source: a path, a pattern such as ``frames/*.png`` or ``frames/%05d.png``, or a camera's
            index.
        start: number of the first frame to give; frame numbers stay those of the source.
        ignore_orientation: leave images as they are stored instead of turning them as their EXIF
            orientation says.

    Raises:
        VideoError: the source cannot be used.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    if start < 0:
        raise VideoError(f"cannot start at frame {start}: frame numbers begin at 0")
    if isinstance(source, int):
        if start:
            raise VideoError("a camera always starts with its next frame; leave out the start")
        return camera_stream(source)
    path = Path(source)
    moving = animation(path, start=start)
    if moving is not None:
        return moving
    found = _image_files(path, official=False)
    if found is None:
        return video_stream(path, start=start)
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


def source_from_text(text: str) -> Path | int:
    """Return what a command line argument means: a bare integer is a camera, else a path."""
    return int(text) if text.isdecimal() and not Path(text).exists() else Path(text)


def _image_files(path: Path, *, official: bool) -> FrameFiles | None:
    """Return the image files that ``path`` stands for, or None if it is a video."""
    if path.is_dir():
        return list_frames(path, official=official)
    if is_pattern(path):
        return match_frames(path)
    return FrameFiles([path]) if path.suffix.lower() in IMAGE_SUFFIXES else None
