"""The pixels of one image file as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from ...errors import VideoError
from ..protocols import RgbImage
from .image_formats import prepare_format

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, damaged, or larger than it allows."""

_LARGEST_16_BIT = 65535


def read_image(path: Path, *, ignore_orientation: bool = False) -> RgbImage:
    """Return the image file as uint8 ``[height, width, 3]``; of an animation, its first frame.

    Args:
        path: the file.
        ignore_orientation: leave the pixels as they are stored, as the official predictor does.
            By default they are turned as the file's EXIF orientation says.

    Raises:
        VideoError: the file is absent, no image, or its numbers have no known range.
        MissingDependencyError: its format needs another package.
    """
    prepare_format(path)
    try:
        with Image.open(path) as image:
            # Clicks are given as viewers show the image, and these honour the tag.
            shown = image if ignore_orientation else ImageOps.exif_transpose(image)
            return rgb_from_image(shown, path)
    except FileNotFoundError as error:
        raise VideoError(f"there is no image {path}") from error
    except UNREADABLE as error:
        raise VideoError(f"cannot read {path} as an image, it may be damaged: {error}") from error


def rgb_from_image(image: PilImage, path: Path) -> RgbImage:
    """Return an opened image as uint8 RGB ``[height, width, 3]``.

    Of 16 bits the upper 8 are kept, as Pillow does with 16-bit colours; its own conversion of
    16-bit grey cuts everything off above 255. Transparency is dropped.

    Raises:
        VideoError: the image holds floating-point numbers, or integers of more than 16 bits.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return np.array(image.convert("RGB"), dtype=np.uint8)
    grey = np.asarray(image)
    if image.mode == "F" or grey.min() < 0 or grey.max() > _LARGEST_16_BIT:
        raise VideoError(
            f"cannot read {path} as a frame: its pixels are not numbers of 8 or 16 bits; "
            "save it as an 8-bit image"
        )
    return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
