"""Images with masks, in one of two layouts; each image is a sequence of one frame.

::

    ROOT/images/<name>.jpg|png                images, and beside them either
    ROOT/masks/<name>.png                     one PNG whose pixels are object numbers, or
    ROOT/masks/<name>/<object>.png            one PNG per object, which may overlap

    ROOT/<name>.jpg and ROOT/<name>.json      SA-1B: {"annotations": [{"segmentation": RLE}, ...]}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from ..._common.json import read_json
from ...errors import VideoError
from ..sample import Frames, Masks
from .image_files import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    VOID,
    check_mask_size,
    chosen_names,
    files_by_number,
    image_size,
    list_folder,
    listed_names,
    read_frame,
    read_labels,
    read_mask,
)
from .rle import decode_rle

MaskReader = Callable[[Path, tuple[int, int]], dict[int, Masks]]


class ImageSample:
    """One image; a ``VideoSequence`` of a single, annotated frame.

    Masks are read when they are first needed, and only objects with at least one pixel count.
    """

    frame_count = 1
    annotated = (0,)

    def __init__(self, name: str, image: Path, masks: Path, reader: MaskReader) -> None:
        """Use ``reader`` for the file or folder ``masks``; the image's size is read at once.

        Raises:
            VideoError: the image is damaged.
        """
        self.name = name
        self.size = image_size(image)
        self._image, self._masks, self._reader = image, masks, reader

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, ascending."""
        return tuple(self._objects)

    def frame(self, index: int = 0) -> Frames:
        """Return the image: [H, W, 3] uint8, RGB.

        Raises:
            IndexError: ``index`` is not 0.
            VideoError: the file is damaged.
        """
        _check_index(index)
        return read_frame(self._image)

    def masks(self, index: int = 0) -> dict[int, Masks]:
        """Return the mask [H, W] bool of every object.

        Raises:
            IndexError: ``index`` is not 0.
            VideoError: a file is damaged, of another size than the image, or shows no object.
        """
        _check_index(index)
        return dict(self._objects)

    def release(self) -> None:
        """Forget the masks; they are read again when they are needed."""
        self.__dict__.pop("_objects", None)

    @cached_property
    def _objects(self) -> dict[int, Masks]:
        found = {i: mask for i, mask in self._reader(self._masks, self.size).items() if mask.any()}
        if not found:
            raise VideoError(
                f"{self._masks} shows no object, so there is nothing to segment in {self.name}"
            )
        return found


def image_set(
    root: str | os.PathLike[str], names: Iterable[str] | None = None
) -> list[ImageSample]:
    """Open a folder of images with masks; see the module for the layouts.

    Args:
        root: the folder.
        names: names of images without suffix; or one string: a name, or the path of a text file
            with one name per line. The default is every image.

    Raises:
        VideoError: a folder, image or mask is missing or damaged, or a name is unknown.
    """
    base = Path(root)
    if not base.is_dir():
        raise VideoError(f"there is no folder {base}; expected one with images and masks")
    pairs = _pairs_with_pngs(base) if (base / "images").is_dir() else _pairs_with_json(base)
    chosen = chosen_names(list(pairs), listed_names(names), base)
    return [ImageSample(name, *pairs[name]) for name in chosen]


def _pairs_with_pngs(base: Path) -> dict[str, tuple[Path, Path, MaskReader]]:
    pairs: dict[str, tuple[Path, Path, MaskReader]] = {}
    for image in list_folder(base / "images"):
        if image.suffix.lower() not in FRAME_SUFFIXES:
            continue
        folder, labels = base / "masks" / image.stem, base / "masks" / f"{image.stem}.png"
        if folder.is_dir():
            pairs[image.stem] = (image, folder, _masks_of_folder)
        elif labels.is_file():
            pairs[image.stem] = (image, labels, _masks_of_labels)
        else:
            raise VideoError(
                f"the image {image} has no mask; expected {labels} or a folder {folder}"
            )
    return pairs


def _pairs_with_json(base: Path) -> dict[str, tuple[Path, Path, MaskReader]]:
    pairs: dict[str, tuple[Path, Path, MaskReader]] = {}
    for image in list_folder(base):
        if image.suffix.lower() not in FRAME_SUFFIXES:
            continue
        annotations = image.with_suffix(".json")
        if not annotations.is_file():
            raise VideoError(
                f"the image {image} has no annotations; expected {annotations}, or the folders "
                f"{base / 'images'} and {base / 'masks'}"
            )
        pairs[image.stem] = (image, annotations, _masks_of_json)
    return pairs


def _masks_of_labels(path: Path, size: tuple[int, int]) -> dict[int, Masks]:
    labels = read_labels(path)
    check_mask_size(path, labels, size)
    return {int(i): labels == i for i in np.unique(labels) if i not in (0, VOID)}


def _masks_of_folder(folder: Path, size: tuple[int, int]) -> dict[int, Masks]:
    found = {}
    for object_id, path in files_by_number(folder, MASK_SUFFIXES).items():
        found[object_id] = read_mask(path)
        check_mask_size(path, found[object_id], size)
    return found


def _masks_of_json(path: Path, size: tuple[int, int]) -> dict[int, Masks]:
    try:
        entries = [entry["segmentation"] for entry in read_json(path)["annotations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VideoError(
            f"cannot read {path} as SA-1B annotations, it may be damaged: {error!r}"
        ) from error
    found = {number: decode_rle(entry, str(path)) for number, entry in enumerate(entries, 1)}
    for mask in found.values():
        check_mask_size(path, mask, size)
    return found


def _check_index(index: int) -> None:
    if index != 0:
        raise IndexError(f"there is no frame {index}; an image has one frame")
