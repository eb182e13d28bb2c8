"""Reading a mask that the user gives as an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import PromptError


def read_mask(path: Path, object_id: int) -> npt.NDArray[np.bool_]:
    """Return the mask of an object, bool ``[height, width]``.

    In an image with a palette, as DAVIS has them, the pixels that hold ``object_id`` are the
    mask; if none does and there is only one object, that one. In any other image it is what is
    brighter than half of the brightest pixel.

    Raises:
        PromptError: the file is absent, no image, empty, or holds several other objects.
    """
    try:
        with Image.open(path) as image:
            indexed = image.mode == "P"
            pixels = _pixels(image)
    except FileNotFoundError as error:
        raise PromptError(f"there is no mask {path}") from error
    # Pillow raises types of its own too, such as for an image that would be too large.
    except Exception as error:
        raise PromptError(f"cannot read the mask {path} as an image: {error}") from error
    if not pixels.any():
        raise PromptError(f"the mask {path} is empty: all of its pixels are 0")
    if not indexed:
        return np.asarray(pixels > pixels.max() / 2)
    return _of_object(path, pixels, object_id)


def _pixels(image: Any) -> npt.NDArray[Any]:
    plain = image.mode in ("1", "L", "P", "I", "I;16", "F")
    return np.asarray(image if plain else image.convert("L"))


def _of_object(path: Path, pixels: npt.NDArray[Any], object_id: int) -> npt.NDArray[np.bool_]:
    present = [int(value) for value in np.unique(pixels) if value]
    if object_id in present:
        return np.asarray(pixels == object_id)
    if len(present) == 1:
        return np.asarray(pixels > 0)
    raise PromptError(
        f"the mask {path} holds the objects {', '.join(map(str, present))}, but not object "
        f"{object_id}; name one of them"
    )
