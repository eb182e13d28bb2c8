"""Frames from image files: a folder of JPEG or PNG files, or a single image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ...errors import VideoError
from ..protocols import RgbImage
from .frame_cache import FrameCache

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
PNG_SUFFIXES = frozenset({".png"})
IMAGE_SUFFIXES = JPEG_SUFFIXES | PNG_SUFFIXES | {".bmp", ".tif", ".tiff", ".webp"}


def list_frames(folder: Path) -> list[Path]:
    """Return the frames in ``folder`` in order.

    These are the JPEG files; if there are none, the PNG files. Names that are whole numbers
    (``00000.jpg``) are sorted by number, as the official predictor does, others naturally
    (``shot2`` before ``shot10``).

    Raises:
        VideoError: there is no such file, or the folder cannot be read.
    """
    try:
        files = [p for p in folder.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise VideoError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    for suffixes in (JPEG_SUFFIXES, PNG_SUFFIXES):
        frames = [p for p in files if p.suffix.lower() in suffixes]
        if frames:
            return sorted(frames, key=_sort_key(frames))
    raise VideoError(
        f"the folder {folder} holds no frames; expected JPEG or PNG files such as 00000.jpg"
    )


def read_image(path: Path) -> RgbImage:
    """Return the image file as uint8 ``[height, width, 3]``, upright.

    Raises:
        VideoError: the file is absent or no image.
    """
    try:
        with Image.open(path) as image:
            # An orientation tag is honoured, because clicks are given as viewers show the image.
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError as error:
        raise VideoError(f"there is no image {path}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(f"cannot read {path} as an image, it may be damaged: {error}") from error


class ImageFrames:
    """Image files as frames, in order and by number.

    This is both a :class:`FrameSource` and an :class:`IndexedFrames`. All images must have the
    size of the first one.
    """

    warning: str | None = None
    fps: float | None = None

    def __init__(
        self, name: str, files: Sequence[Path], *, start: int = 0, cache_frames: int = 16
    ) -> None:
        """Use ``files`` in the given order; the first one is read at once for its size."""
        if not 0 <= start < len(files):
            raise VideoError(
                f"cannot start at frame {start}: {name} has {len(files)} frames, "
                f"numbered from 0 to {len(files) - 1}"
            )
        self.name = name
        self.start = start
        self._files = list(files)
        self._cache = FrameCache(cache_frames)
        first = read_image(self._files[0])
        self.height, self.width = first.shape[:2]
        self._cache.put(0, first)

    @property
    def num_frames(self) -> int:
        """Number of files."""
        return len(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> RgbImage:
        """Return frame ``index`` as uint8 ``[height, width, 3]``.

        Raises:
            IndexError: there is no such frame.
            VideoError: the image is damaged or of another size than the first.
        """
        index = normalize_index(index, len(self._files))
        frame = self._cache.get(index)
        if frame is None:
            frame = self._read(index)
            self._cache.put(index, frame)
        return frame

    def __iter__(self) -> Iterator[RgbImage]:
        for index in range(self.start, len(self._files)):
            yield self._read(index)

    def close(self) -> None:
        """Do nothing: no file stays open between frames."""

    def __enter__(self) -> ImageFrames:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self, index: int) -> RgbImage:
        frame = read_image(self._files[index])
        if frame.shape[:2] != (self.height, self.width):
            height, width = frame.shape[:2]
            raise VideoError(
                f"frame {index} ({self._files[index].name}) of {self.name} is {width}x{height} "
                f"pixels, but the frames before it are {self.width}x{self.height}; "
                "all frames must have the same size"
            )
        return frame


def normalize_index(index: int, length: int) -> int:
    """Return ``index`` counted from 0; a negative one counts from the end.

    Raises:
        IndexError: it is outside of ``length`` frames.
    """
    if not -length <= index < length:
        raise IndexError(f"there is no frame {index}; there are {length} frames")
    return index % length


def _sort_key(frames: Sequence[Path]) -> Any:
    if all(_is_number(p.stem) for p in frames):
        return lambda p: (int(p.stem), p.name)
    return _natural_key


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+", text) is not None


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    # Tuples of one shape, because numbers and texts cannot be compared with each other.
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(p), "") if _is_number(p) else (1, 0, p) for p in parts]
