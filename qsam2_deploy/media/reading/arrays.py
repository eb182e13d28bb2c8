"""Frames that a program holds in memory already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import VideoError
from ..protocols import RgbImage
from .images import normalize_index


class ArrayFrames:
    """An :class:`.IndexedFrames` over arrays, which are not copied.

    Each is uint8 RGB ``[height, width, 3]``, all of one size; anything that numpy reads as such
    (a PIL image, a tensor on the CPU) will do.
    """

    warning: str | None = None
    fps: float | None = None

    def __init__(self, frames: Sequence[Any]) -> None:
        """Check and keep the frames.

        Raises:
            VideoError: it is no list, there is no frame, or one has another shape, type or size.
        """
        if not hasattr(frames, "__len__"):
            raise VideoError(
                "the video must be a path, or a list of uint8 RGB arrays [height, width, 3], but "
                f"is of type {type(frames).__name__}"
            )
        if not len(frames):
            raise VideoError("there are no frames: the list is empty; give one array per frame")
        self._frames = [_checked(frame, index) for index, frame in enumerate(frames)]
        self.height, self.width = self._frames[0].shape[:2]
        for index, frame in enumerate(self._frames):
            if frame.shape != self._frames[0].shape:
                height, width = frame.shape[:2]
                raise VideoError(
                    f"frame {index} of the list is {width}x{height} pixels, but the first is "
                    f"{self.width}x{self.height}; all frames must have the same size"
                )

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> RgbImage:
        """Return frame ``index``.

        Raises:
            IndexError: there is no such frame.
        """
        return self._frames[normalize_index(index, len(self._frames))]

    def close(self) -> None:
        """Do nothing: the arrays are the caller's."""

    def __enter__(self) -> ArrayFrames:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _checked(frame: Any, index: int) -> RgbImage:
    array = np.asarray(frame)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise VideoError(
            f"frame {index} of the list must be uint8 RGB of shape [height, width, 3], but is "
            f"{array.dtype} of shape {list(array.shape)}"
        )
    return array
