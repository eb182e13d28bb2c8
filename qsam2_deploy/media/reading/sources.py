"""Opening whatever the user gives as a video."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import VideoError
from ..protocols import FrameSource, IndexedFrames
from .camera import camera_stream
from .images import IMAGE_SUFFIXES, ImageFrames, list_frames
from .indexed_video import IndexedVideo
from .video_stream import video_stream


def open_frames(source: str | os.PathLike[str] | int, *, start: int = 0) -> FrameSource:
    """Open a video file, a folder of frames, an image, or a camera by its number.

    Use the result in a ``with`` block and iterate over it for uint8 ``[height, width, 3]`` RGB
    frames. Frames are decoded one at a time.

    Args:
        source: a path, or a camera's index.
        start: number of the first frame to give; frame numbers stay those of the source.

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
    files = _image_files(path)
    if files is not None:
        return ImageFrames(str(path), files, start=start)
    return video_stream(path, start=start)


def open_indexed(source: str | os.PathLike[str], *, cache_frames: int = 16) -> IndexedFrames:
    """Open a video file, a folder of frames or an image for access by frame number.

    Args:
        source: a path.
        cache_frames: how many decoded frames to keep in memory.

    Raises:
        VideoError: the source cannot be used.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    path = Path(source)
    files = _image_files(path)
    if files is not None:
        return ImageFrames(str(path), files, cache_frames=cache_frames)
    return IndexedVideo(path, cache_frames=cache_frames)


def source_from_text(text: str) -> Path | int:
    """Return what a command line argument means: a bare integer is a camera, else a path."""
    return int(text) if text.isdecimal() and not Path(text).exists() else Path(text)


def _image_files(path: Path) -> list[Path] | None:
    """Return the image files that ``path`` stands for, or None if it is a video."""
    if path.is_dir():
        return list_frames(path)
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else None
