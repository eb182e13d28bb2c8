"""Where a video's prompts come from; they are read where the video is segmented."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..data.sample import VideoSequence
from ..errors import PromptError
from ..evaluation.prompts import first_prompts
from ..media.prompting.prompt_file import prompts_from_entries, prompts_from_file
from ..media.prompting.prompts import FramePrompt
from ..tracking.results import Prompt


class PromptSource(Protocol):
    """Gives the prompts of one video."""

    def read(self) -> list[FramePrompt]:
        """Read them.

        Raises:
            InputError: they cannot be read.
        """


@dataclass(frozen=True)
class GivenPrompts:
    """Prompts that are there already, of a command line."""

    prompts: tuple[FramePrompt, ...]

    def read(self) -> list[FramePrompt]:
        """Return them."""
        return list(self.prompts)


@dataclass(frozen=True)
class NoPrompts:
    """A video without prompts; what is missing is said by ``origin``."""

    origin: str

    def read(self) -> list[FramePrompt]:
        """Say that there are none.

        Raises:
            PromptError: always.
        """
        raise PromptError(
            f'{self.origin} has neither "prompts" nor "annotations"; say what to segment'
        )


@dataclass(frozen=True)
class ListedPrompts:
    """Prompts of a manifest; masks in it are files.

    Attributes:
        entries: as in a file of prompts.
        origin: where they stand, for messages.
        folder: what paths of masks are relative to.
    """

    entries: tuple[Any, ...]
    origin: str
    folder: Path

    def read(self) -> list[FramePrompt]:
        """Read the masks, and return all prompts.

        Raises:
            PromptError: an entry is malformed, or a mask cannot be read.
        """
        return prompts_from_entries(self.entries, self.origin, self.folder)


@dataclass(frozen=True)
class PromptsFile:
    """A JSON file of prompts."""

    path: Path

    def read(self) -> list[FramePrompt]:
        """Read the file.

        Raises:
            PromptError: it is absent or malformed.
        """
        return prompts_from_file(self.path)


@dataclass(frozen=True)
class DavisPrompts:
    """The masks of a sequence of DAVIS, each object's first one."""

    root: Path
    name: str
    resolution: str

    def read(self) -> list[FramePrompt]:
        """Read the annotations.

        Raises:
            VideoError: they are damaged, or show no object.
        """
        from ..data.datasets.davis import davis_sequences

        return first_masks(davis_sequences(self.root, [self.name], resolution=self.resolution)[0])


@dataclass(frozen=True)
class SavPrompts:
    """The masks of a video of SA-V, each object's first one."""

    root: Path
    name: str

    def read(self) -> list[FramePrompt]:
        """Read the annotations.

        Raises:
            VideoError: they are damaged, or show no object.
        """
        from ..data.datasets.sav import sav_sequences

        return first_masks(sav_sequences(self.root, [self.name])[0])


@dataclass(frozen=True)
class AnnotationPrompts:
    """The masks in a folder beside any video, each object's first one."""

    name: str
    video: Path | str
    annotations: Path

    def read(self) -> list[FramePrompt]:
        """Read the annotations.

        Raises:
            VideoError: they are damaged, or show no object.
        """
        from ..evaluation.annotated_video import AnnotatedVideo

        sequence = AnnotatedVideo(self.name, self.video, self.annotations)
        try:
            return [replace(item, files=(self.annotations,)) for item in first_masks(sequence)]
        finally:
            sequence.release()


def first_masks(sequence: VideoSequence) -> list[FramePrompt]:
    """Return each object's first mask, as ``qsam2-eval`` prompts with it.

    Raises:
        VideoError: an annotation is damaged, or an object is in none.
    """
    return [
        FramePrompt(item.frame_index, Prompt(item.object_id, mask=item.mask))
        for item in first_prompts(sequence, "mask")
    ]
