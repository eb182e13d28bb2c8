"""What can be evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..data.sample import VideoSequence
from .prompts import FirstPrompt

Masks = dict[int, npt.NDArray[np.bool_]]
"""A mask [H, W] for each object id, of the size of the frame."""


class Model(Protocol):
    """A model, or its results of an earlier run.

    A Protocol, because an exported model, a checkpoint and a folder of files share no code, and
    so that other people's models can be evaluated: two methods are all that is needed.
    """

    @property
    def info(self) -> Mapping[str, str]:
        """What it is, for the report: name, digest, versions of packages."""

    def track(self, sequence: VideoSequence, prompts: Sequence[FirstPrompt]) -> Iterator[Masks]:
        """Yield the masks of every frame, from the first to the last.

        Before its prompt an object has an empty mask or no entry.
        """

    def segment(self, image: VideoSequence, prompts: Sequence[FirstPrompt]) -> Masks:
        """Return the masks of a still image, which is a sequence of one frame."""
