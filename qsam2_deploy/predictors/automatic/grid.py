"""Where to look: regular points, and the crops of a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .rules import whole_number

Points = npt.NDArray[np.float64]
"""``[N, 2]``, (x, y) as shares of the picture's width and height."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""


def point_grid(per_side: int) -> Points:
    """Return the centres of ``per_side x per_side`` equal cells, row by row, ``[N, 2]``."""
    first = 1 / (2 * per_side)
    centres = np.linspace(first, 1 - first, per_side)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def grids_of_layers(per_side: int, layers: int, downscale: int) -> list[Points]:
    """Return a grid for the picture and one for each layer of crops.

    Layer ``i`` has ``per_side / downscale^i`` points in a row, rounded down (upstream
    ``build_all_layer_point_grids``).

    Raises:
        InputError: a number is too small, or a layer would have no point.
    """
    whole_number("points_per_side", per_side, at_least=1)
    whole_number("crop_n_points_downscale_factor", downscale, at_least=1)
    counts = [int(per_side / downscale**layer) for layer in range(layers + 1)]
    if counts[-1] < 1:
        raise InputError(
            f"points_per_side={per_side} leaves no point for layer {layers} of the crops with "
            f"crop_n_points_downscale_factor={downscale}; give more points or a smaller factor"
        )
    return [point_grid(count) for count in counts]


def checked_grids(point_grids: Sequence[npt.ArrayLike], layers: int) -> list[Points]:
    """Return the user's own points as float64 arrays.

    Args:
        point_grids: ``[N, 2]`` for each layer, the whole picture first.
        layers: of the crops.

    Raises:
        InputError: there are fewer grids than layers, or one has another shape or a point that
            is outside of 0 to 1.
    """
    if isinstance(point_grids, (str, bytes)) or not isinstance(point_grids, (list, tuple)):
        raise InputError(
            f"point_grids must be a list with an array of shape [N, 2] for the picture and for "
            f"each layer of crops, but got {type(point_grids).__name__}"
        )
    if len(point_grids) < layers + 1:
        raise InputError(
            f"point_grids must have {layers + 1} entries, one for the picture and one for each of "
            f"{layers} layers of crops, but got {len(point_grids)}"
        )
    return [_checked_grid(grid, f"point_grids[{i}]") for i, grid in enumerate(point_grids)]


def _checked_grid(grid: npt.ArrayLike, name: str) -> Points:
    try:
        points = np.asarray(grid, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise InputError(
            f"{name} must have shape [N, 2] with at least one point (x, y), but got "
            f"{list(points.shape)}"
        )
    # Written so that NaN fails, too.
    if not ((points >= 0) & (points <= 1)).all():
        raise InputError(
            f"{name} must hold shares of the picture's width and height from 0 to 1; divide "
            "pixels by the size"
        )
    return points


def crop_boxes(
    size: tuple[int, int], layers: int, overlap_ratio: float
) -> Iterator[tuple[Box, int]]:
    """Iterate over the picture and its crops, with the number of the layer of each.

    Layer ``i`` from 1 on has ``m = 2^i`` crops in a row that overlap by ``overlap_ratio`` of the
    shorter side, divided by ``m / 2``; the upper left corner goes down first, then to the right
    (upstream ``generate_crop_boxes``).

    Args:
        size: height and width of the picture.
        layers: of crops; 0 gives the picture alone.
        overlap_ratio: from 0 to 1.

    Raises:
        InputError: the picture is too small for so many crops.
    """
    height, width = size
    yield (0, 0, width, height), 0
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        crop_width = _crop_length(width, count, overlap)
        crop_height = _crop_length(height, count, overlap)
        for column, row in product(range(count), repeat=2):
            left, top = column * (crop_width - overlap), row * (crop_height - overlap)
            right, bottom = min(left + crop_width, width), min(top + crop_height, height)
            if left >= right or top >= bottom:
                raise InputError(
                    f"a picture of {width}x{height} pixels is too small for {layers} layers of "
                    "crops; lower crop_n_layers"
                )
            yield (left, top, right, bottom), layer


def _crop_length(length: int, count: int, overlap: int) -> int:
    return math.ceil((overlap * (count - 1) + length) / count)
