"""SA-V: validation and test as image files, training as videos with run-length masks.

::

    ROOT/JPEGImages_24fps/<video>/00000.jpg                       validation and test
    ROOT/Annotations_6fps/<video>/<object>/00000.png, 00004.png, ...

    ROOT/<video>.mp4 and ROOT/<video>_manual.json                 training
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import VideoError
from ..sample import Masks, VideoSequence
from .image_files import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    FrameFiles,
    check_mask_size,
    chosen_names,
    files_by_number,
    image_size,
    list_folder,
    listed_names,
    read_mask,
)
from .sav_train import sav_train_sequences, sav_train_videos

FRAMES_FOLDER = "JPEGImages_24fps"
MASKS_FOLDER = "Annotations_6fps"


@dataclass(frozen=True)
class SavSequence(FrameFiles):
    """One video of SA-V validation or test; a ``VideoSequence``.

    Objects may overlap, each has its own annotated frames, and object numbers start at 0.

    Attributes:
        name: name of its folder.
        frame_files: one image per frame, at 24 frames per second.
        mask_files: for each object a PNG by index of its frame, about every fourth.
        size: height and width, pixels.
    """

    name: str
    frame_files: tuple[Path, ...]
    mask_files: Mapping[int, Mapping[int, Path]]
    size: tuple[int, int]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, ascending."""
        return tuple(self.mask_files)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames in which at least one object is annotated, ascending."""
        return tuple(sorted({index for files in self.mask_files.values() for index in files}))

    def masks(self, index: int) -> dict[int, Masks]:
        """Return the masks [H, W] bool of the objects that are annotated in frame ``index``.

        Raises:
            VideoError: a file is damaged, or of another size than the frames.
        """
        found = {}
        for object_id, files in self.mask_files.items():
            if index in files:
                found[object_id] = read_mask(files[index])
                check_mask_size(files[index], found[object_id], self.size)
        return found


def sav_sequences(
    root: str | os.PathLike[str], names: Iterable[str] | None = None
) -> list[VideoSequence]:
    """Open videos of SA-V.

    Args:
        root: the folder with ``JPEGImages_24fps`` and ``Annotations_6fps``, or the training
            set's folder with ``<video>.mp4`` and ``<video>_manual.json`` (which needs PyAV).
        names: names of videos; or one string: a name, or the path of a text file with one name
            per line. The default is every video with annotations.

    Raises:
        VideoError: a folder, frame or mask is missing or damaged, a name is unknown, or an
            object has no mask; the sentence names the file.
    """
    base = _base(root)
    if not _has_frames(base):
        return list(sav_train_sequences(base, names))
    images, annotations = base / FRAMES_FOLDER, base / MASKS_FOLDER
    return [_open(name, images / name, annotations / name) for name in _chosen(base, names)]


def sav_videos(root: str | os.PathLike[str], names: Iterable[str] | None = None) -> dict[str, Path]:
    """Return the folder of frames or the file of each video, without looking into it.

    The arguments are those of :func:`sav_sequences`.

    Raises:
        VideoError: a folder of the dataset is missing, or a name is unknown.
    """
    base = _base(root)
    if not _has_frames(base):
        return sav_train_videos(base, names)
    return {name: base / FRAMES_FOLDER / name for name in _chosen(base, names)}


def _base(root: str | os.PathLike[str]) -> Path:
    if not Path(root).is_dir():
        raise VideoError(f"there is no folder {os.fspath(root)}; expected SA-V's folder")
    return Path(root)


def _has_frames(base: Path) -> bool:
    """Return whether it is validation or test; else it is training."""
    return (base / FRAMES_FOLDER).is_dir() or (base / MASKS_FOLDER).is_dir()


def _chosen(base: Path, names: Iterable[str] | None) -> list[str]:
    for folder in (base / FRAMES_FOLDER, base / MASKS_FOLDER):
        if not folder.is_dir():
            raise VideoError(
                f"there is no folder {folder}; expected both {FRAMES_FOLDER} and {MASKS_FOLDER}"
            )
    known = [p.name for p in list_folder(base / MASKS_FOLDER) if p.is_dir()]
    return chosen_names(known, listed_names(names), base / MASKS_FOLDER)


def _open(name: str, images: Path, annotations: Path) -> SavSequence:
    frames = files_by_number(images, FRAME_SUFFIXES)
    if not frames:
        raise VideoError(f"the video {name!r} has no frames; expected {images / '00000.jpg'}")
    for number in range(min(frames), max(frames) + 1):
        if number not in frames:
            missing = images / f"{number:05d}.jpg"
            raise VideoError(f"the video {name!r} is not complete: there is no frame {missing}")
    index_of = {number: index for index, number in enumerate(frames)}
    objects = {}
    for folder in _object_folders(annotations):
        masks = files_by_number(folder, MASK_SUFFIXES)
        if not masks:
            raise VideoError(f"there is no mask in {folder}; expected files such as 00000.png")
        for number, path in masks.items():
            if number not in frames:
                raise VideoError(f"the mask {path} has no frame {images / f'{number:05d}.jpg'}")
        objects[int(folder.name)] = {index_of[number]: path for number, path in masks.items()}
    return SavSequence(name, tuple(frames.values()), objects, image_size(frames[min(frames)]))


def _object_folders(annotations: Path) -> list[Path]:
    folders = [p for p in list_folder(annotations) if p.is_dir()]
    for folder in folders:
        if re.fullmatch("[0-9]+", folder.name) is None:
            raise VideoError(f"{folder} is not named by an object number such as 000")
    if not folders:
        raise VideoError(
            f"{annotations} holds no object; expected a folder of masks per object, such as 000"
        )
    return sorted(folders, key=lambda p: int(p.name))
