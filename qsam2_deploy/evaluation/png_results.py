"""Results of an earlier run, of this or any other program, as something to evaluate.

::

    ROOT/<sequence>/00000.png              object numbers, or 0 and 255 for a single object
    ROOT/<sequence>/<object>/00000.png     one object per file, which may overlap (as SA-V)
    ROOT/<sequence>/masks/...              either of them, as qsam2-batch writes it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from .._common.versions import installed_versions
from ..data.datasets.image_files import check_mask_size, list_folder, read_labels, read_mask
from ..data.sample import VideoSequence
from ..errors import VideoError
from .model import Masks
from .prompts import FirstPrompt

_MASKS = "masks"


class PngResults:
    """A folder of mask files; a ``Model`` that computes nothing."""

    def __init__(self, root: Path) -> None:
        """Use the folder ``root``.

        Raises:
            VideoError: there is no such folder.
        """
        if not root.is_dir():
            raise VideoError(f"there is no folder {root}; expected one with a folder per sequence")
        self._root = root

    @property
    def info(self) -> Mapping[str, str]:
        """Name of the folder, and versions."""
        return {"model": self._root.resolve().name, **installed_versions()}

    def track(self, sequence: VideoSequence, prompts: Sequence[FirstPrompt]) -> Iterator[Masks]:  # noqa: ARG002
        """Yield the masks of every frame; frames without annotation may lack a file.

        Raises:
            VideoError: a file is missing or damaged, has another size than the frame, or shows
                an object that the sequence does not have.
        """
        folder = self._root / sequence.name
        if not folder.is_dir():
            raise VideoError(f"there are no results for {sequence.name}; expected {folder}")
        if (folder / _MASKS).is_dir():
            folder /= _MASKS
        per_object = any(path.is_dir() for path in list_folder(folder))
        read = _masks_per_object if per_object else _masks_of_labels
        annotated = frozenset(sequence.annotated)
        for index in range(sequence.frame_count):
            yield read(folder, sequence, index) if index in annotated else {}

    def segment(self, image: VideoSequence, prompts: Sequence[FirstPrompt]) -> Masks:
        """Return the masks of an image, the only frame of its sequence.

        Raises:
            VideoError: as :meth:`track`.
        """
        return next(self.track(image, prompts))


def _masks_of_labels(folder: Path, sequence: VideoSequence, index: int) -> Masks:
    path = folder / f"{index:05d}.png"
    _check_exists(path, sequence)
    labels = read_labels(path)
    check_mask_size(path, labels, sequence.size)
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *sequence.object_ids})
    if unknown:
        raise VideoError(
            f"the result {path} shows object {unknown[0]}, but {sequence.name} has the objects "
            f"{', '.join(map(str, sequence.object_ids))}; expected their numbers, 0 elsewhere"
        )
    return {i: labels == i for i in sequence.object_ids}


def _masks_per_object(folder: Path, sequence: VideoSequence, index: int) -> Masks:
    folders = {int(p.name): p for p in list_folder(folder) if p.is_dir() and p.name.isdecimal()}
    found: Masks = {}
    for object_id in sequence.masks(index):
        path = folders.get(object_id, folder / f"{object_id:03d}") / f"{index:05d}.png"
        _check_exists(path, sequence)
        found[object_id] = read_mask(path)
        check_mask_size(path, found[object_id], sequence.size)
    return found


def _check_exists(path: Path, sequence: VideoSequence) -> None:
    if not path.is_file():
        raise VideoError(f"the results for {sequence.name} are not complete: there is no {path}")
