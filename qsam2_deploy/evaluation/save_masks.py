"""Writing the masks of an evaluation, in the layout that ``PngResults`` and others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._common.files import describe_os_error
from ..data.sample import VideoSequence
from ..errors import InputError
from ..media.writing.image_writer import write_indexed_png
from .model import Masks
from .results import SequenceResult


class MaskSaver:
    """An observer that writes one PNG per frame, or per frame and object where they overlap."""

    def __init__(self, root: Path, *, exclusive: bool) -> None:
        """Write below ``root``, which is made with the first mask.

        Raises:
            InputError: it is a file.
        """
        self._root, self._exclusive = root, exclusive
        if root.is_file():
            raise InputError(f"cannot write masks to {root}: it is a file, no folder")

    def frame(self, sequence: VideoSequence, index: int, masks: Masks) -> None:
        """Write the masks of one frame.

        Raises:
            InputError: the folder cannot be written to, or the disk is full.
        """
        folder, name = self._root / sequence.name, f"{index:05d}.png"
        if self._exclusive:
            labels = np.zeros(sequence.size, np.uint8)
            # The model gives each pixel to one object; if not, the lowest number has it.
            for object_id in sorted(masks, reverse=True):
                labels[masks[object_id]] = object_id
            write_indexed_png(_made(folder) / name, labels)
            return
        for object_id in sequence.object_ids:
            mask = masks.get(object_id)
            empty = np.zeros(sequence.size, np.uint8)
            labels = empty if mask is None else mask.astype(np.uint8)
            write_indexed_png(_made(folder / f"{object_id:03d}") / name, labels)

    def sequence(self, sequence: VideoSequence, result: SequenceResult) -> None:
        """Do nothing: every frame is on disk already."""


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(describe_os_error(error, folder)) from error
    return folder
