"""From what the user gave, in pixels of the frame, to what the tracker takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from .resize import resize_bilinear_antialias
from .tracker import PointInputs

_BOX_LABELS = (2, 3)


def point_inputs(
    points: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    box: npt.ArrayLike | None,
    *,
    frame_size: tuple[int, int],
    image_size: int,
    normalize: bool = True,
) -> PointInputs:
    """Join a box and points and scale them to the model's input.

    A box becomes two points before the others, as the model was trained (upstream
    ``add_new_points_or_box``).

    Args:
        points: ``[P, 2]`` or ``[1, P, 2]``, pixels of the frame; None for a box alone.
        labels: ``[P]`` or ``[1, P]``.
        box: 4 numbers, in any shape.
        frame_size: height and width of the frame.
        image_size: side ``S`` of the model's input.
        normalize: divide by the frame's size first; False where the numbers are already 0 to 1.

    Raises:
        PromptError: neither points nor box, points without labels, another number of them, or
            coordinates that are not finite.
    """
    if (points is None) != (labels is None):
        raise PromptError("points and labels must be provided together")
    if points is None and box is None:
        raise PromptError("at least one of points or box must be provided as input")
    coords = _array(points, (-1, 2), np.float32, "points")
    kinds = _array(labels, (-1,), np.int32, "labels")
    if len(coords) != len(kinds):
        raise PromptError(
            f"there must be one label for each point, but got {len(coords)} points and "
            f"{len(kinds)} labels"
        )
    if box is None and len(coords) == 0:
        raise PromptError(
            "points must hold at least one point where no box is given, but are empty"
        )
    if box is not None:
        coords = np.concatenate([_array(box, (2, 2), np.float32, "box"), coords])
        kinds = np.concatenate([np.asarray(_BOX_LABELS, np.int32), kinds])
    if normalize:
        height, width = frame_size
        coords = coords / np.asarray([width, height], np.float32)
    return PointInputs((coords * np.float32(image_size)).astype(np.float32), kinds)


def _array(
    value: npt.ArrayLike | None, shape: Sequence[int], dtype: Any, what: str
) -> npt.NDArray[Any]:
    if value is None:
        return np.zeros([max(n, 0) for n in shape], dtype)
    try:
        array = np.asarray(value, dtype).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(
            f"{what} must be numbers that fit the shape {tuple(shape)}, but got {value!r}"
        ) from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} must be finite numbers, but got {value!r}")
    return array


def mask_input(mask: npt.ArrayLike, image_size: int) -> npt.NDArray[np.float32]:
    """Resize a mask to the model's input, float32 ``[S, S]`` of zeros and ones.

    Follows upstream ``add_new_mask``: bilinear with antialiasing, then a threshold of one half.

    Raises:
        PromptError: the mask does not have two dimensions.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise PromptError(f"a mask must be of shape (height, width), but got {array.shape}")
    values = array.astype(bool).astype(np.float32)
    if values.shape == (image_size, image_size):
        return values
    resized = resize_bilinear_antialias(values, image_size, image_size)
    return (resized >= 0.5).astype(np.float32)
