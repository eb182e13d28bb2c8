"""Masks as DAVIS writes them: one PNG per frame, whose pixels are object numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import PromptError
from ...tracking.results import FrameResult
from .image_writer import write_indexed_png
from .output_folder import OutputFolder

LARGEST_OBJECT_ID = 255


class MaskWriter:
    """Writes ``00000.png``, ``00001.png``, … into a folder, each complete or not at all.

    Files of an earlier run under the same names are replaced; others stay.
    """

    def __init__(self, folder: Path, taken: tuple[Path, ...] = ()) -> None:
        """Use ``folder``; it is made if only its last part is missing.

        Args:
            folder: for the masks.
            taken: files that none of them may replace.

        Raises:
            InputError: it cannot be made.
        """
        self._folder = OutputFolder(folder, "masks", taken)

    def write(self, frame_index: int, height: int, width: int, result: FrameResult) -> None:
        """Write the masks of one frame.

        Raises:
            PromptError: an object's number does not fit into a pixel.
            InputError: the folder cannot be written to, the disk is full, or the file is taken.
        """
        labels = label_image(height, width, result)
        write_indexed_png(self._folder.file(f"{frame_index:05d}.png"), labels)

    def close(self) -> None:
        """Remove the folder again if it was made for nothing."""
        self._folder.close()


def label_image(height: int, width: int, result: FrameResult) -> npt.NDArray[np.uint8]:
    """Return ``[height, width]`` with each pixel's object number; 0 is the background.

    Where masks overlap, the object with the highest logit has the pixel, whatever the order of
    the objects; the first one where they are equal.

    Raises:
        PromptError: an object's number is not from 1 to 255.
    """
    check_object_ids(item.object_id for item in result.objects)
    labels = np.zeros((height, width), dtype=np.uint8)
    best = np.full((height, width), -np.inf, dtype=np.float32)
    for item in result.objects:
        wins = item.mask & (item.logits > best)
        labels[wins] = item.object_id
        best[wins] = item.logits[wins]
    return labels


def check_object_ids(object_ids: Iterable[int]) -> None:
    """Check that object numbers can be pixels of an indexed PNG.

    Raises:
        PromptError: one is not from 1 to 255.
    """
    for object_id in object_ids:
        if not 1 <= object_id <= LARGEST_OBJECT_ID:
            raise PromptError(
                f"object {object_id} cannot be written to a mask PNG, whose pixels are 0 for the "
                f"background and 1 to {LARGEST_OBJECT_ID} for objects; choose such a number"
            )
