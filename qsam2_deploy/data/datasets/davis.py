"""DAVIS 2016 and 2017: one PNG of object numbers beside every frame.

::

    ROOT/JPEGImages/480p/<sequence>/00000.jpg
    ROOT/Annotations/480p/<sequence>/00000.png     DAVIS 2016: 0 and 255; 2017: object numbers
    ROOT/ImageSets/2017/val.txt                    optional: names of the sequences of a split
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import VideoError
from ..sample import Masks
from .image_files import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    VOID,
    FrameFiles,
    Labels,
    check_mask_size,
    chosen_names,
    files_by_number,
    image_size,
    list_folder,
    read_labels,
)


@dataclass(frozen=True)
class DavisSequence(FrameFiles):
    """One sequence; a :class:`~qsam2_deploy.data.sample.VideoSequence`.

    Every frame is annotated. The objects are those of the first mask, as in the benchmark: an
    object which enters later is none, and neither are void pixels (255 beside other numbers).

    Attributes:
        name: name of its folder.
        frame_files: one image per frame.
        mask_files: one PNG per frame.
        size: height and width, pixels.
        object_ids: ascending.
    """

    name: str
    frame_files: tuple[Path, ...]
    mask_files: tuple[Path, ...]
    size: tuple[int, int]
    object_ids: tuple[int, ...]

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the annotated frames: all of them."""
        return tuple(range(len(self.mask_files)))

    def masks(self, index: int) -> dict[int, Masks]:
        """Return the mask [H, W] bool of every object in frame ``index``, empty where absent.

        Raises:
            VideoError: the file is damaged, or of another size than the frames.
        """
        labels = self.labels(index)
        return {i: labels == i for i in self.object_ids}

    def labels(self, index: int) -> Labels:
        """Return the object number of each pixel of frame ``index``, uint8 [H, W].

        Raises:
            VideoError: the file is damaged, or of another size than the frames.
        """
        labels = read_labels(self.mask_files[index])
        check_mask_size(self.mask_files[index], labels, self.size)
        return labels


def davis_sequences(
    root: str | os.PathLike[str], names: Iterable[str] | None = None, *, resolution: str = "480p"
) -> list[DavisSequence]:
    """Open sequences of a dataset in the DAVIS layout.

    Args:
        root: the folder with ``JPEGImages`` and ``Annotations``.
        names: names of sequences; or one string: the name of a sequence, of a split in
            ``ImageSets`` (``val``), or the path of a text file with one name per line. The
            default is every sequence with annotations.
        resolution: the folder below ``JPEGImages`` and ``Annotations``.

    Raises:
        VideoError: a folder, frame or mask is missing or damaged, a name is unknown, or a first
            mask shows no object; the sentence names the file.
    """
    images, annotations, chosen = _chosen(Path(root), names, resolution)
    return [_open(name, images / name, annotations / name) for name in chosen]


def davis_folders(
    root: str | os.PathLike[str], names: Iterable[str] | None = None, *, resolution: str = "480p"
) -> dict[str, Path]:
    """Return the folder of frames of each sequence, without looking into it.

    The arguments are those of :func:`davis_sequences`.

    Raises:
        VideoError: a folder of the dataset is missing, or a name is unknown.
    """
    images, _, chosen = _chosen(Path(root), names, resolution)
    return {name: images / name for name in chosen}


def _chosen(
    base: Path, names: Iterable[str] | None, resolution: str
) -> tuple[Path, Path, list[str]]:
    """Return the folders of frames and of masks, and the sequences that ``names`` stands for."""
    images, annotations = base / "JPEGImages" / resolution, base / "Annotations" / resolution
    for folder in (base, images, annotations):
        if not folder.is_dir():
            raise VideoError(
                f"there is no folder {folder}; expected a dataset with JPEGImages/{resolution} "
                f"and Annotations/{resolution}"
            )
    known = [p.name for p in list_folder(annotations) if p.is_dir()]
    wanted = _names_of_split(base, names, known, resolution) if isinstance(names, str) else names
    listed = None if wanted is None else list(wanted)
    return images, annotations, chosen_names(known, listed, annotations)


def _open(name: str, images: Path, annotations: Path) -> DavisSequence:
    frames = files_by_number(images, FRAME_SUFFIXES)
    masks = files_by_number(annotations, MASK_SUFFIXES)
    _check_complete(name, frames, masks, images, annotations)
    size = image_size(frames[min(frames)])
    first = masks[min(masks)]
    labels = read_labels(first)
    check_mask_size(first, labels, size)
    ids = tuple(int(i) for i in np.unique(labels) if i not in (0, VOID))
    if not ids:
        raise VideoError(
            f"the first mask {first} shows no object, so there is nothing to track; "
            "expected pixels other than 0"
        )
    return DavisSequence(name, tuple(frames.values()), tuple(masks.values()), size, ids)


def _check_complete(
    name: str, frames: dict[int, Path], masks: dict[int, Path], images: Path, annotations: Path
) -> None:
    if not frames:
        raise VideoError(f"the sequence {name!r} has no frames; expected {images / '00000.jpg'}")
    expected = set(range(min(frames), max(frames) + 1)) | set(masks)
    for kind, found, folder, suffix in (
        ("frame", frames, images, ".jpg"),
        ("mask", masks, annotations, ".png"),
    ):
        missing = sorted(expected - set(found))
        if missing:
            raise VideoError(
                f"the sequence {name!r} lacks {len(missing)} of {len(expected)} {kind}s; the "
                f"first one missing is {folder / f'{missing[0]:05d}{suffix}'}"
            )


def _names_of_split(base: Path, text: str, known: Sequence[str], resolution: str) -> list[str]:
    """Return the names that ``text`` stands for: a sequence, a split, or a file."""
    if text in known:
        return [text]
    folders = [base / "ImageSets" / part for part in ("2017", "2016", resolution, "")]
    for path in (Path(text), *(folder / f"{text}.txt" for folder in folders)):
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8-sig").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise VideoError(f"cannot read the list of sequences {path}: {error}") from error
            return list(dict.fromkeys(_sequence_of(line) for line in lines if line.strip()))
    return [text]


def _sequence_of(line: str) -> str:
    """Return the name in a line of a split; DAVIS 2016 lists the paths of frames and masks."""
    first = line.split()[0]
    return Path(first).parent.name if Path(first).suffix else first
