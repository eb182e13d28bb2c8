"""Affine resampling that averages what it shrinks, so that nothing shimmers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from .affine import Affine, compose, pixel_matrix, stretch

Image = npt.NDArray[np.uint8]  # [h, w] or [h, w, 3]


def warp(
    image: Image,
    matrix: Affine,
    size: tuple[int, int],
    fill: tuple[int, int, int] | None = (0, 0, 0),
) -> Image:
    """Return ``image`` moved by ``matrix``.

    Args:
        image: [h, w] or [h, w, 3] uint8.
        matrix: [2, 3] from the image to the output, pixels.
        size: height and width of the output, pixels.
        fill: colour outside of the image; None repeats its edge.
    """
    cv2 = opencv()
    image, matrix = _prepared(image, matrix)
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    out: Image = cv2.warpAffine(
        image, pixel_matrix(matrix), (size[1], size[0]),
        flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill or 0,
    )  # fmt: skip
    return out


def resized(image: Image, height: int, width: int) -> Image:
    """Return ``image`` stretched to ``height`` x ``width`` pixels."""
    cv2 = opencv()
    matrix = stretch(width / image.shape[1], height / image.shape[0])
    if image.strides[0] < 0 or not image[0].flags.c_contiguous:  # mirrored or turned
        image = np.ascontiguousarray(image)
    image, _ = _prepared(image, matrix)
    out: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return out


def _prepared(image: Image, matrix: Affine) -> tuple[Image, Affine]:
    """``image`` without the detail that its map to the output, ``matrix``, cannot keep."""
    image, matrix = _halved(image, matrix)
    blur_x, blur_y = (_blur_before(*matrix[:, axis]) for axis in (0, 1))
    if max(blur_x, blur_y) > 0.3:
        cv2 = opencv()
        image = cv2.GaussianBlur(image, (0, 0), max(blur_x, 0.1), sigmaY=max(blur_y, 0.1))
    return image, matrix


def _halved(image: Image, matrix: Affine) -> tuple[Image, Affine]:
    """``image`` with half the width and height, as often as both axes shrink by 2 or more."""
    cv2 = opencv()
    while max(np.hypot(*matrix[:, 0]), np.hypot(*matrix[:, 1])) <= 0.5 and min(image.shape[:2]) > 3:
        height, width = image.shape[:2]
        image = image[: height // 2 * 2, : width // 2 * 2]  # whole pairs: the fast way of OpenCV
        image = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        matrix = compose(matrix, stretch(2, 2))
    return image, matrix


def _blur_before(along: float, across: float) -> float:
    """Standard deviation, pixels, that prepares an axis which ``matrix`` maps to this vector.

    A pixel of the output is 1 / s pixels of the input wide. Half of sqrt(1 / s^2 - 1) on top of
    the blur of a pixel itself gives that width.
    """
    scale = max(float(np.hypot(along, across)), 1e-3)
    return 0.5 * float(np.sqrt(max(scale**-2 - 1, 0.0)))
