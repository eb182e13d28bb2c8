"""Affine maps of the plane as [..., 2, 3] float64 matrices.

Positions are continuous: the image spans 0 .. width, and the centre of pixel i is at i + 0.5.
OpenCV puts the centre of pixel i at i; ``pixel_matrix`` converts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]


def similarity(
    scale: npt.ArrayLike, angle: npt.ArrayLike, shift: npt.ArrayLike, squash: npt.ArrayLike = 1.0
) -> Affine:
    """Return maps that stretch, rotate and move, in this order.

    Args:
        scale: [...] factor along both axes.
        angle: [...] radians, from x to y.
        shift: [..., 2] x and y.
        squash: [...] further factor along the x axis, before the rotation.
    """
    scale, angle, shift, squash = (np.asarray(v, np.float64) for v in (scale, angle, shift, squash))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    shape = np.broadcast_shapes(cos.shape, shift.shape[:-1], squash.shape)
    out = np.empty((*shape, 2, 3))
    out[..., 0, 0], out[..., 0, 1] = cos * squash, -sin
    out[..., 1, 0], out[..., 1, 1] = sin * squash, cos
    out[..., 2] = shift
    return out


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the maps [..., 2, 3] that apply ``inner`` first and ``outer`` second."""
    out: Affine = outer[..., :2] @ inner
    out[..., 2] += outer[..., 2]
    return out


def apply(matrix: Affine, points: Points) -> Points:
    """Map points [..., P, 2] by matrices [..., 2, 3]."""
    turned: Points = points @ np.swapaxes(matrix[..., :2], -1, -2)
    return np.asarray(turned + matrix[..., None, :, 2])


def about(centre: npt.ArrayLike, matrix: Affine) -> Affine:
    """Return ``matrix`` [..., 2, 3] carried out around ``centre`` [2] instead of the origin."""
    point = np.asarray(centre, np.float64)
    out: Affine = matrix.copy()
    out[..., 2] += point - matrix[..., :2] @ point
    return out


def stretch(x: float, y: float, shift_x: float = 0.0, shift_y: float = 0.0) -> Affine:
    """Return the map [2, 3] (u, v) -> (x u + shift_x, y v + shift_y)."""
    return np.array([[x, 0.0, shift_x], [0.0, y, shift_y]])


def magnification(matrix: Affine) -> npt.NDArray[np.float64]:
    """Return [...] how many times longer the maps [..., 2, 3] make things, on average."""
    area = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
    return np.asarray(np.sqrt(np.abs(area)))


def pixel_matrix(matrix: Affine) -> Affine:
    """Return the map [..., 2, 3] between OpenCV pixel indices for a map of continuous positions."""
    out: Affine = matrix.copy()
    out[..., 2] += 0.5 * matrix[..., :2].sum(-1) - 0.5
    return out
