"""What the demo model is scored on, and what gives its scores a scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qsam2_deploy.data.datasets.davis import DavisSequence
from qsam2_deploy.data.generated import GeneratedClips, GeneratedClipsConfig
from qsam2_deploy.data.sample import Clip, VideoSequence
from qsam2_deploy.errors import PromptError
from qsam2_deploy.evaluation.model import Masks
from qsam2_deploy.evaluation.prompts import FirstPrompt

TRAIN = (
    "bmx-trees", "breakdance", "car-roundabout", "cows", "dance-twirl", "dog", "goat",
    "motocross-jump", "paragliding-launch", "soapbox",
)  # fmt: skip
TEST = ("blackswan", "car-shadow", "drift-straight", "horsejump-high", "scooter-black")
"""DAVIS 2016 sequences. The demo model has seen the first ten only, and is calibrated on them."""

HELD_OUT_SEED = 31_415_926
"""Of the generated clips; no recipe trains or validates on this one."""

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class ClipSequence:
    """A clip in memory; a ``VideoSequence`` whose objects count from 1."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.name = clip.name
        self.frame_count, height, width = clip.frames.shape[:3]
        self.size = (height, width)
        self.object_ids = tuple(range(1, clip.masks.shape[1] + 1))
        self.annotated = tuple(range(self.frame_count))

    def frame(self, index: int) -> Image:
        """Return frame ``index``: [H, W, 3] uint8, RGB."""
        return self._clip.frames[index]

    def masks(self, index: int) -> dict[int, Mask]:
        """Return the mask [H, W] of every object, empty where it is hidden."""
        return dict(zip(self.object_ids, self._clip.masks[index], strict=True))


@dataclass(frozen=True)
class StillFrame:
    """One frame of a sequence as an image; a ``VideoSequence`` of one frame.

    Attributes:
        sequence: the video.
        index: of the frame in it; every object must be seen in it.
    """

    sequence: VideoSequence
    index: int

    frame_count = 1
    annotated = (0,)

    @property
    def name(self) -> str:
        """Name of the sequence and number of the frame."""
        return f"{self.sequence.name}/{self.index:05d}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.sequence.size

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, ascending."""
        return self.sequence.object_ids

    def frame(self, index: int = 0) -> Image:  # noqa: ARG002
        """Return the image: [H, W, 3] uint8, RGB."""
        return self.sequence.frame(self.index)

    def masks(self, index: int = 0) -> dict[int, Mask]:  # noqa: ARG002
        """Return the mask [H, W] of every object."""
        return self.sequence.masks(self.index)


class FirstMask:
    """A model that moves nothing: every frame gets the mask of the prompt."""

    info: Mapping[str, str] = {"model": "copy of the first mask"}

    def track(self, sequence: VideoSequence, prompts: Sequence[FirstPrompt]) -> Iterator[Masks]:
        """Yield the masks of every frame."""
        for index in range(sequence.frame_count):
            yield {
                prompt.object_id: prompt.mask
                for prompt in prompts
                if prompt.mask is not None and prompt.frame_index <= index
            }

    def segment(self, image: VideoSequence, prompts: Sequence[FirstPrompt]) -> Masks:  # noqa: ARG002
        """Refuse: an image's own mask would be the truth."""
        raise PromptError("a still image has no earlier mask to copy; score videos")


def held_out_clips(count: int, frames: int, size: int, *, easy: bool = False) -> list[ClipSequence]:
    """Return generated clips with procedural textures, ``frames`` of ``size`` x ``size`` pixels.

    Easy ones show few, large and slow objects of one colour on a plain background.
    """
    source = GeneratedClips(GeneratedClipsConfig(seed=HELD_OUT_SEED, easy=float(easy)))
    return [ClipSequence(source.clip(n, frames=frames, size=size)) for n in range(count)]


def first_frames(sequence: DavisSequence, most: int | None) -> DavisSequence:
    """Return the first ``most`` frames of a sequence; all of them for None."""
    frames, masks = sequence.frame_files[:most], sequence.mask_files[:most]
    return replace(sequence, frame_files=frames, mask_files=masks)


def still_frames(sequences: Sequence[VideoSequence], every: int) -> list[StillFrame]:
    """Return every ``every``-th frame as an image, where all objects of its sequence are seen."""
    return [
        StillFrame(sequence, index)
        for sequence in sequences
        for index in range(0, sequence.frame_count, every)
        if all(mask.any() for mask in sequence.masks(index).values())
    ]


def link_evenly(sequences: Sequence[DavisSequence], each: int, folder: Path) -> int:
    """Fill ``folder`` with links to ``each`` evenly spaced frames per sequence; return how many."""
    folder.mkdir()
    for sequence in sequences:
        count = sequence.frame_count
        for index in sorted({(2 * n + 1) * count // (2 * each) for n in range(each)}):
            file = sequence.frame_files[index].resolve()
            (folder / f"{sequence.name}_{index:05d}{file.suffix}").symlink_to(file)
    return len(list(folder.iterdir()))
