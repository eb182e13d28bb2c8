"""Frames from image files: a folder of them, a pattern, or a single image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from ...errors import VideoError
from ..protocols import Colours, RgbImage, Shown, Sound
from .frame_cache import FrameCache
from .image_pixels import read_image


class ImageFrames:
    """Image files as frames, in order and by number.

    This is both a :class:`FrameSource` and an :class:`IndexedFrames`. All images must have the
    size of the first one.
    """

    fps: float | None = None
    shown: Shown | None = None
    pixel_aspect: Fraction | None = None
    colours: Colours | None = None
    sound: Sound | None = None

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        *,
        start: int = 0,
        cache_frames: int = 16,
        warning: str | None = None,
        ignore_orientation: bool = False,
    ) -> None:
        """Use ``files`` in the given order; the first one is read at once for its size.

        Args:
            name: what messages call them.
            files: one image each.
            start: number of the first frame to give.
            cache_frames: how many decoded frames to keep in memory.
            warning: a sentence about files that were left out.
            ignore_orientation: as :func:`.read_image` has it.

        Raises:
            VideoError: there is no frame ``start``, or the first image cannot be read.
        """
        check_start(start, len(files), name)
        self.warning = warning
        self.name = name
        self._ignore_orientation = ignore_orientation
        self.start = start
        self._files = list(files)
        self._cache = FrameCache(cache_frames)
        first = self._pixels(0)
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
        frame = self._pixels(index)
        if frame.shape[:2] != (self.height, self.width):
            height, width = frame.shape[:2]
            raise VideoError(
                f"frame {index} ({self._files[index].name}) of {self.name} is {width}x{height} "
                f"pixels, but the frames before it are {self.width}x{self.height}; "
                "all frames must have the same size"
            )
        return frame

    def _pixels(self, index: int) -> RgbImage:
        return read_image(self._files[index], ignore_orientation=self._ignore_orientation)


def check_start(start: int, length: int, name: str) -> None:
    """Check that there is a frame to start with.

    Raises:
        VideoError: there is none.
    """
    if not 0 <= start < length:
        raise VideoError(
            f"cannot start at frame {start}: {name} has {length} frames, "
            f"numbered from 0 to {length - 1}"
        )


def normalize_index(index: int, length: int) -> int:
    """Return ``index`` counted from 0; a negative one counts from the end.

    Raises:
        IndexError: it is outside of ``length`` frames.
    """
    if not -length <= index < length:
        raise IndexError(f"there is no frame {index}; there are {length} frames")
    return index % length
