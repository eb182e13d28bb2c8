"""Animated images as videos: WebP, which FFmpeg does not read, PNG, and AVIF."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import VideoError
from ..protocols import Colours, RgbImage, Shown, Sound
from .frame_cache import FrameCache
from .image_formats import AVIF_SUFFIXES
from .image_pixels import UNREADABLE, rgb_from_image
from .images import check_start, normalize_index

_ANIMATED_SUFFIXES = AVIF_SUFFIXES | {".webp", ".png", ".apng"}

# What browsers take where a file gives a frame no time.
_DEFAULT_SECONDS = 0.1


def animation(path: Path, *, start: int = 0, cache_frames: int = 16) -> AnimatedImage | None:
    """Return the frames of an image file that moves, None if it is a still image or another file.

    Raises:
        VideoError: it has no frame ``start``, or its first frame is damaged.
    """
    if path.suffix.lower() not in _ANIMATED_SUFFIXES:
        return None
    try:
        with Image.open(path) as image:
            moves = _length(image) > 1
    except UNREADABLE:
        return None  # Whoever reads it as a still image says what is wrong.
    return AnimatedImage(path, start=start, cache_frames=cache_frames) if moves else None


class AnimatedImage:
    """The frames of an animated image, whole as a viewer shows them, in order and by number.

    This is both a :class:`FrameSource` and an :class:`IndexedFrames`. Transparency is dropped.
    """

    warning: str | None = None
    pixel_aspect: Fraction | None = None
    colours: Colours | None = None
    sound: Sound | None = None

    def __init__(self, path: Path, *, start: int = 0, cache_frames: int = 16) -> None:
        """Open the file and read the first frame.

        Raises:
            VideoError: there is no frame ``start``, or the first is damaged.
        """
        self.name = str(path)
        self.start = start
        self.shown: Shown | None = None
        self._path = path
        self._image: Any = Image.open(path)
        # The first picture of a PNG may be one for programs that show no animations.
        self._hidden = int(bool(self._image.info.get("default_image")))
        self._length = _length(self._image)
        check_start(start, self._length, self.name)
        self._cache = FrameCache(cache_frames)
        first, seconds = self._read(0)
        self._cache.put(0, first)
        self.height, self.width = first.shape[:2]
        self.fps: float | None = 1 / seconds

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self._length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> RgbImage:
        """Return frame ``index`` as uint8 ``[height, width, 3]``.

        Raises:
            IndexError: there is no such frame.
            VideoError: it is damaged.
        """
        index = normalize_index(index, self._length)
        frame = self._cache.get(index)
        if frame is None:
            frame, _ = self._read(index)
            self._cache.put(index, frame)
        return frame

    def __iter__(self) -> Iterator[RgbImage]:
        time = 0.0
        for index in range(self._length):
            frame, seconds = self._read(index)
            self.shown = Shown(time, seconds)
            time += seconds
            if index >= self.start:
                yield frame

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def __enter__(self) -> AnimatedImage:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self, index: int) -> tuple[RgbImage, float]:
        """Return a frame and the seconds for which it is shown."""
        try:
            self._image.seek(index + self._hidden)
            self._image.load()
            seconds = float(self._image.info.get("duration") or 0) / 1000
            return rgb_from_image(self._image, self._path), seconds or _DEFAULT_SECONDS
        except UNREADABLE as error:
            raise VideoError(f"frame {index} of {self.name} cannot be decoded: {error}") from error


def _length(image: Any) -> int:
    return int(getattr(image, "n_frames", 1)) - int(bool(image.info.get("default_image")))
