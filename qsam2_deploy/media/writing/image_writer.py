"""Writing image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..._common.files import atomic_path
from ...errors import VideoError
from ..protocols import RgbImage
from .palette import davis_palette

WRITABLE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


def check_image_suffix(path: Path) -> None:
    """Check that an image can be written under this name.

    Raises:
        VideoError: the suffix is none of ``WRITABLE_SUFFIXES``.
    """
    if path.suffix.lower() not in WRITABLE_SUFFIXES:
        raise VideoError(f"cannot write the image {path}: its name must end in .png or .jpg")


def write_image(path: Path, image: RgbImage, **options: Any) -> None:
    """Write a uint8 RGB or RGBA image ``[height, width, 3 or 4]``; ``options`` are Pillow's.

    Raises:
        VideoError: the suffix is unknown.
        InputError: the folder cannot be written to, or the disk is full.
    """
    check_image_suffix(path)
    _save(path, Image.fromarray(image), **options)


def write_indexed_png(path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Write ``labels [height, width]`` as a PNG whose colours are the DAVIS palette's.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    image = Image.fromarray(labels)
    image.putpalette(davis_palette().tobytes())
    _save(path, image)


def _save(path: Path, image: Any, **options: Any) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, **options)
