"""Any video with a folder of masks in the layout of DAVIS, as something to evaluate on."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.datasets.image_files import MASK_SUFFIXES, VOID, files_by_number, read_labels
from ..data.datasets.manifest import read_manifest
from ..data.sample import VideoSequence
from ..errors import InputError, VideoError
from ..media.protocols import IndexedFrames, RgbImage
from ..media.reading.sources import open_indexed


class AnnotatedVideo:
    """A video, a folder of frames or a pattern, with masks; a ``VideoSequence``.

    The mask of frame 12 is ``00012.png``; frames in between may lack one. The objects are those of
    the first mask. The video is opened when its frames are asked for.
    """

    def __init__(self, name: str, video: Path | str, annotations: Path) -> None:
        """Read the first mask.

        Raises:
            VideoError: the folder is absent, has no mask, or the first one shows no object.
        """
        self.name = name
        self._video, self._folder = video, annotations
        self._files = files_by_number(annotations, MASK_SUFFIXES)
        if not self._files:
            raise VideoError(f"there is no mask in {annotations}; expected files like 00000.png")
        first = next(iter(self._files.values()))
        self.object_ids = tuple(int(i) for i in np.unique(read_labels(first)) if i not in (0, VOID))
        if not self.object_ids:
            raise VideoError(
                f"the first mask {first} shows no object, so there is nothing to track; "
                "expected pixels other than 0"
            )
        self._frames: IndexedFrames | None = None

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the annotated frames, ascending."""
        return tuple(self._files)

    @property
    def frame_count(self) -> int:
        """Number of frames.

        Raises:
            VideoError: the video cannot be read, or ends before its last mask.
        """
        return self._shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame, pixels.

        Raises:
            VideoError: as :attr:`frame_count`.
        """
        return self._shape[1:]

    def frame(self, index: int) -> RgbImage:
        """Return frame ``index``: [H, W, 3] uint8, RGB.

        Raises:
            VideoError: the video is damaged.
        """
        if self._frames is None:
            self._frames = open_indexed(self._video)
        return self._frames[index]

    def masks(self, index: int) -> dict[int, npt.NDArray[np.bool_]]:
        """Return the mask [H, W] bool of every object in frame ``index``; none without a file.

        Raises:
            VideoError: the file is damaged.
        """
        if index not in self._files:
            return {}
        labels = read_labels(self._files[index])
        return {i: labels == i for i in self.object_ids}

    def release(self) -> None:
        """Close the video; it is opened again when it is needed."""
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        with open_indexed(self._video) as frames:
            count = len(frames)
            last = max(self._files)
            if last >= count:
                raise VideoError(
                    f"the mask {self._files[last]} has no frame: {self._video} has {count} frames, "
                    f"numbered from 0 to {count - 1}"
                )
            return count, frames.height, frames.width


def manifest_sequences(
    path: str | os.PathLike[str], names: str | tuple[str, ...] | None = None
) -> list[VideoSequence]:
    """Open the annotated videos of a manifest.

    Args:
        path: see :mod:`~qsam2_deploy.data.datasets.manifest`.
        names: names of entries, or one of them; None for all.

    Raises:
        InputError: the manifest cannot be used, a name is unknown, or an entry is of a part of
            its video, or has no annotations.
        VideoError: annotations cannot be used.
    """
    entries = {entry.name: entry for entry in read_manifest(path)}
    wanted = list(entries) if names is None else [names] if isinstance(names, str) else list(names)
    sequences: list[VideoSequence] = []
    for name in wanted:
        entry = entries.get(name)
        if entry is None:
            raise InputError(f"there is no video {name!r} in {path}; check its name")
        if entry.annotations is None:
            raise InputError(
                f'{entry.origin} has no "annotations" to score against; name a folder of masks'
            )
        if entry.start or entry.max_frames is not None:
            raise InputError(
                f'{entry.origin} is of a part of its video; leave "start" and "max_frames" out to '
                "score it"
            )
        sequences.append(AnnotatedVideo(name, entry.video, entry.annotations))
    return sequences
