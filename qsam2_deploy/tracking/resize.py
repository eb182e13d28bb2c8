"""Bilinear resizing of float arrays with the sampling weights of torch.

Both kinds are separable: along rows first, then along columns, each with float32 weights that are
bit-equal to those of torch. Each output needs only a few neighbouring inputs, so the weight matrix
is banded; it is cut into blocks of outputs, and each block is one small matrix product, which is
several times faster than gathering the neighbours.

Results differ from torch by the rounding of sums only, about one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_BLOCK = 32
"""Outputs per matrix product: more wastes work on zeros, fewer wastes it on calls (measured)."""

FloatArray = npt.NDArray[np.float32]
_Band = tuple[slice, slice, FloatArray]
"""Which outputs, from which inputs, and their weights ``[outputs, inputs]``."""


def resize_bilinear(x: FloatArray, height: int, width: int) -> FloatArray:
    """Resize as torch ``F.interpolate(mode="bilinear", align_corners=False)``.

    Args:
        x: float32 ``[..., h, w]``, all finite.
        height: rows of the result, in pixels.
        width: columns of the result, in pixels.

    Returns:
        float32 ``[..., height, width]``.
    """
    return _resize(x, height, width, antialias=False)


def bilinear_bands(
    x: FloatArray, height: int, width: int, window: tuple[slice, slice]
) -> Iterator[tuple[int, int, FloatArray]]:
    """Iterate over the part of :func:`resize_bilinear` that a window of the input has a share in.

    It comes in bands of a few rows, which stay in the processor's cache while they are looked at.

    Args:
        x: float32 ``[h, w]``, all finite.
        height: rows of the whole result, in pixels.
        width: columns of the whole result, in pixels.
        window: rows and columns of ``x``, with numbers from 0 and at least one of each.

    Yields:
        The first row and the first column of a band in the whole result, and the band, float32
        ``[rows, columns]``, which the next one overwrites. Bands follow each other without a gap.
        Where there is none, no pixel of the window has a weight other than 0.
    """
    down = _touched(_bands(x.shape[0], height, antialias=False), window[0])
    across = _touched(_bands(x.shape[1], width, antialias=False), window[1])
    if not down or not across:
        return
    left, first = across[0][0].start, down[0][1].start
    source = np.asarray(x[first : down[-1][1].stop], np.float32)
    narrow = np.empty((len(source), across[-1][0].stop - left), np.float32)
    for outputs, inputs, weights in across:
        narrow[:, _moved(outputs, left)] = source[:, inputs] @ weights.T
    buffer = np.empty((_BLOCK, narrow.shape[1]), np.float32)
    for outputs, inputs, weights in down:
        band = buffer[: len(weights)]
        np.matmul(weights, narrow[_moved(inputs, first)], out=band)
        yield outputs.start, left, band


def resize_bilinear_antialias(x: FloatArray, height: int, width: int) -> FloatArray:
    """Resize as torch ``F.interpolate(mode="bilinear", antialias=True)``.

    When it shrinks, every input contributes: the triangle filter is widened by the scale, as in
    Pillow. Upstream uses it for mask prompts and for still images (``torchvision`` ``Resize``).

    Args:
        x: float32 ``[..., h, w]``, all finite.
        height: rows of the result, in pixels.
        width: columns of the result, in pixels.

    Returns:
        float32 ``[..., height, width]``.
    """
    return _resize(x, height, width, antialias=True)


def _resize(x: FloatArray, height: int, width: int, *, antialias: bool) -> FloatArray:
    x = np.asarray(x, dtype=np.float32)
    return _columns(_rows(x, width, antialias), height, antialias)


def _touched(bands: tuple[_Band, ...], window: slice) -> list[_Band]:
    """Return the bands that read one of the inputs of ``window``; they follow each other."""
    return [band for band in bands if band[1].start < window.stop and window.start < band[1].stop]


def _moved(place: slice, by: int) -> slice:
    return slice(place.start - by, place.stop - by)


def _rows(x: FloatArray, width: int, antialias: bool) -> FloatArray:
    """Resize the last axis."""
    if x.shape[-1] == width:
        return x
    result = np.empty((*x.shape[:-1], width), np.float32)
    for outputs, inputs, weights in _bands(x.shape[-1], width, antialias):
        result[..., outputs] = x[..., inputs] @ weights.T
    return result


def _columns(x: FloatArray, height: int, antialias: bool) -> FloatArray:
    """Resize the last axis but one."""
    if x.shape[-2] == height:
        return np.array(x)
    result = np.empty((*x.shape[:-2], height, x.shape[-1]), np.float32)
    for outputs, inputs, weights in _bands(x.shape[-2], height, antialias):
        np.matmul(weights, x[..., inputs, :], out=result[..., outputs, :])
    return result


@lru_cache(maxsize=64)
def _bands(size: int, new_size: int, antialias: bool) -> tuple[_Band, ...]:
    """Cut the weights ``[new_size, size]`` into blocks of at most ``_BLOCK`` outputs."""
    taps = _antialias_taps if antialias else _plain_taps
    first, weights = taps(size, new_size)
    return tuple(
        _band(first, weights, size, start, min(start + _BLOCK, new_size))
        for start in range(0, new_size, _BLOCK)
    )


def _band(
    first: npt.NDArray[np.int64], weights: FloatArray, size: int, start: int, stop: int
) -> _Band:
    low = int(first[start])
    high = min(int(first[stop - 1]) + weights.shape[1], size)
    dense = np.zeros((stop - start, high - low), np.float32)
    for row, output in enumerate(range(start, stop)):
        column = int(first[output]) - low
        kept = weights[output, : high - low - column]
        dense[row, column : column + len(kept)] = kept
    dense.flags.writeable = False
    return slice(start, stop), slice(low, high), dense


def _plain_taps(size: int, new_size: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return for each output its first input, ``[new_size]``, and two weights, ``[new_size, 2]``.

    ATen ``area_pixel_compute_source_index``: position ``max(scale (i + 0.5) - 0.5, 0)``.
    """
    scale = np.float32(size) / np.float32(new_size)
    # torch is compiled with fused multiply-add: the product is not rounded before the subtraction.
    exact = np.float64(scale) * (np.arange(new_size) + 0.5) - 0.5
    position = np.maximum(exact, 0).astype(np.float32)
    first = np.minimum(position.astype(np.int64), size - 1)
    second_weight = np.clip(position - first.astype(np.float32), 0, 1).astype(np.float32)
    weights = np.stack([np.float32(1) - second_weight, second_weight], axis=1)
    # At the last input both taps are the same pixel.
    weights[first == size - 1] = (1, 0)
    return first, weights


def _antialias_taps(size: int, new_size: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return for each output its first input, ``[new_size]``, and weights, ``[new_size, taps]``.

    ATen ``_compute_indices_min_size_weights_aa``: a triangle of half width ``max(scale, 1)``
    around ``scale (i + 0.5)``, normalised to a sum of 1.
    """
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(size) / np.float32(new_size)
    support = max(scale, one)
    center = scale * (np.arange(new_size, dtype=np.float32) + half)
    first = np.maximum((center - support + half).astype(np.int64), 0)
    stop = np.minimum((center + support + half).astype(np.int64), size)
    offset = np.arange(int((stop - first).max()), dtype=np.int64)
    inputs = first[:, None] + offset
    distance = (inputs.astype(np.float32) - center[:, None] + half) * (one / support)
    weights = np.maximum(one - np.abs(distance), 0).astype(np.float32)
    weights[inputs >= stop[:, None]] = 0
    # Summed one by one: numpy's own sum groups the terms and may differ in the last place.
    total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]
    return first, (weights / total).astype(np.float32)


def resize_pixels_bilinear(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize 8-bit pixels as OpenCV's ``resize`` does by default: bilinear, without antialiasing.

    The weights have 11 bits; sums along rows lose 4 bits before they are weighted along columns,
    and 16 and 2 behind it, the last rounded (OpenCV, ``modules/imgproc/src/resize.cpp``). Where it
    enlarges, less than 1 % of the values differ from OpenCV 5, by one.

    Args:
        pixels: uint8 ``[height, width, channels]``.
        size: side of the result in pixels.

    Returns:
        uint8 ``[size, size, channels]``.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    height, width = pixels.shape[:2]
    left, right, x_weights = _fixed_point_weights(width, size)
    top, bottom, y_weights = _fixed_point_weights(height, size)
    rows = np.unique(np.concatenate([top, bottom]))
    place = np.zeros(height, np.intp)
    place[rows] = np.arange(len(rows))
    wide = pixels[rows].astype(np.int32)
    summed = wide[:, left] * x_weights[0][:, None] + wide[:, right] * x_weights[1][:, None]
    summed >>= 4
    upper = (summed[place[top]] * y_weights[0][:, None, None]) >> 16
    lower = (summed[place[bottom]] * y_weights[1][:, None, None]) >> 16
    result: npt.NDArray[np.uint8] = np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)
    return result


@lru_cache(maxsize=8)
def _fixed_point_weights(
    inputs: int, outputs: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return the two inputs of each output, and their weights ``[2, outputs]`` of 11 bits."""
    centre = (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5
    centre = centre.astype(np.float32)
    first = np.floor(centre).astype(np.intp)
    part = centre - first.astype(np.float32)
    part[first < 0] = 0
    first = np.maximum(first, 0)
    part[first >= inputs - 1] = 0
    first = np.minimum(first, inputs - 1)
    weights = np.stack([1 - part, part]) * np.float32(2048)
    return first, np.minimum(first + 1, inputs - 1), np.rint(weights).astype(np.int32)
