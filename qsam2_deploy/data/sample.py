"""The two sample types: a clip in memory, and a sequence on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import VideoError

Frames = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clip:
    """A few frames with a mask of every object in every frame; one image is a clip of one frame.

    Attributes:
        frames: [T, H, W, 3] uint8, RGB.
        masks: [T, N, H, W] bool; objects may overlap, and a mask is empty where its object is
            absent or hidden.
        name: where the clip comes from, for messages.
        labelled: False where the masks say nothing about the frames but where to prompt.

    Raises:
        VideoError: the shapes or dtypes are others.
    """

    frames: Frames
    masks: Masks
    name: str = ""
    labelled: bool = True

    def __post_init__(self) -> None:
        frames, masks = self.frames, self.masks
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise VideoError(
                f"{self.name or 'clip'}: frames must be uint8 of shape (T, H, W, 3), "
                f"but got {frames.dtype} of shape {frames.shape}"
            )
        expected = (frames.shape[0], *frames.shape[1:3])
        if masks.ndim != 4 or (masks.shape[0], *masks.shape[2:]) != expected:
            raise VideoError(
                f"{self.name or 'clip'}: masks must have shape "
                f"({expected[0]}, N, {expected[1]}, {expected[2]}), but got {masks.shape}"
            )
        if masks.dtype != np.bool_:
            raise VideoError(f"{self.name or 'clip'}: masks must be bool, but got {masks.dtype}")


class VideoSequence(Protocol):
    """An annotated video or image on disk, read frame by frame.

    A Protocol, so that a reader for another layout needs no base class.
    """

    @property
    def name(self) -> str:
        """Name of the sequence, unique in its dataset."""

    @property
    def frame_count(self) -> int:
        """Number of frames."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame, pixels."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all annotated objects, ascending."""

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames that have an annotation, ascending."""

    def frame(self, index: int) -> Frames:
        """Return frame ``index``: [H, W, 3] uint8, RGB."""

    def masks(self, index: int) -> dict[int, Masks]:
        """Return the mask [H, W] bool of every object annotated in frame ``index``.

        An object that is absent has an empty mask or no entry.
        """


@runtime_checkable
class HoldsResources(Protocol):
    """A sequence that keeps a file open, or annotations in memory, between two frames."""

    def release(self) -> None:
        """Let go of them; they are opened again when they are needed."""


def release(sequence: VideoSequence) -> None:
    """Let ``sequence`` go of what it holds: of thousands, few can have their files open."""
    if isinstance(sequence, HoldsResources):
        sequence.release()


class ClipSource(Protocol):
    """Endless training clips: ``clip(index)`` depends on the seed and ``index`` alone.

    So workers, processes and a resumed run need only agree on indices.
    """

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return clip ``index``: ``frames`` frames of ``size`` x ``size`` pixels.

        Every object of the clip is visible in the first frame.
        """
