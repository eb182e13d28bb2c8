"""Clip thresholds of least mean squared error: exact for weights, from a histogram for inputs.

The error of a clip is unimodal but for rounding effects, so all functions look at a geometric row
of candidates from a fraction of the root mean square to the largest magnitude, and then more
closely around the best. The two ends of an affine grid are searched for in turns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..quant.quantizers.affine import affine_step, affine_zero_point
from ..quant.quantizers.grid import AFFINE, MIN_SCALE, Grid, dequantize, quantize
from .histogram import Histogram

_CANDIDATES = 32
_REFINEMENTS = 8
_LOWEST = 0.3
_TURNS = 2
_NEAR_ZERO = 2.0**-10


def weight_clip(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the best clip of every output channel.

    Args:
        weight: ``[out, in]``.
        grid: its grid, symmetric or mid-rise.

    Returns:
        float32 ``[out]``, the highest level; 0 for a channel of zeros.
    """
    values = weight.float()
    absmax = values.abs().amax(dim=1)
    rms = values.square().mean(dim=1).sqrt()

    def error(clips: torch.Tensor) -> torch.Tensor:
        scale = (clips / grid.clip_steps).clamp_min(MIN_SCALE)[:, None]
        return (dequantize(quantize(values, scale, grid), scale) - values).square().sum(dim=1)

    return _search(error, _LOWEST * rms, absmax)


def histogram_clip(histogram: Histogram, grid: Grid) -> float:
    """Return the best clip for the values of a histogram on a grid without a zero-point.

    It is the highest level; 0 if all values are zero.
    """
    values, counts = histogram.used()
    if histogram.limit == 0.0 or not len(values):
        return 0.0
    rms = _rms(values, counts)

    def error(clips: torch.Tensor) -> torch.Tensor:
        scale = clips / grid.clip_steps
        difference = dequantize(quantize(values, scale, grid), scale) - values
        return (counts @ difference.square())[None]

    return float(_search(error, _LOWEST * rms[None], values.abs().amax()[None])[0])


def histogram_range(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """Return the best thresholds for the values of a histogram; zeros if they are all zero.

    On an affine grid they are its ends, at most 0 and at least 0; on another the best clip.
    """
    if grid.kind != AFFINE:
        clip = histogram_clip(histogram, grid)
        return -clip, clip
    values, counts = histogram.used()
    if histogram.limit == 0.0 or not len(values):
        return 0.0, 0.0
    # From a clip that leaves outliers out, or the first turn would have to keep one of the ends.
    clip = histogram_clip(histogram, Grid(grid.bits))
    ends = {-1: (-values.min()).clamp(0.0, clip), 1: values.max().clamp(0.0, clip)}
    for sign in (1, -1) * _TURNS:
        ends[sign] = _best_end(values, counts, grid, sign, ends[-sign])
    return -float(ends[-1]), float(ends[1])


def histogram_step(histogram: Histogram, grid: Grid) -> float:
    """Return the step at the best thresholds for the values of a histogram."""
    low, high = histogram_range(histogram, grid)
    return (high - low if grid.kind == AFFINE else high) / grid.clip_steps


def _best_end(
    values: torch.Tensor, counts: torch.Tensor, grid: Grid, sign: int, other: torch.Tensor
) -> torch.Tensor:
    """Return the best distance from 0 of the upper (``sign`` 1) or lower end of an affine grid.

    ``other`` is that of the other end; the result is 0 if no value has this sign.
    """
    farthest = (sign * values).max().clamp_min(0.0)
    if float(farthest) == 0.0:
        return farthest

    def error(ends: torch.Tensor) -> torch.Tensor:
        end = ends[0]
        low, high = (-other, end) if sign > 0 else (-end, other)
        scale = affine_step(low, high, grid)
        zero_point = affine_zero_point(low, scale, grid)
        found = dequantize(quantize(values, scale, grid, zero_point), scale)
        return (counts @ (found - values).square())[None]

    return _search(error, (_NEAR_ZERO * farthest)[None], farthest[None])[0]


def _rms(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return (counts @ values.square() / counts.sum()).sqrt()


def weight_quantization_error(weight: torch.Tensor, grid: Grid) -> float:
    """Return ``||W - quantized W|| / ||W||`` with the best clips; 0 for zeros."""
    scale = (weight_clip(weight, grid) / grid.clip_steps).clamp_min(MIN_SCALE)[:, None]
    difference = dequantize(quantize(weight.float(), scale, grid), scale) - weight
    norm = float(weight.double().norm())
    return float(difference.double().norm()) / norm if norm > 0 else 0.0


def _search(
    error: Callable[[torch.Tensor], torch.Tensor], low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """Return for each row the clip between ``low`` and ``high`` of least ``error``."""
    ratio = torch.where(low > 0, high / low, torch.ones_like(low)).clamp_min(1.0)
    best = _best_exponent(error, low, ratio, torch.linspace(0.0, 1.0, _CANDIDATES), None)
    offsets = torch.linspace(-1.0, 1.0, 2 * _REFINEMENTS + 1) / (_CANDIDATES - 1)
    best = _best_exponent(error, low, ratio, offsets, best)
    return low * ratio**best


def _best_exponent(
    error: Callable[[torch.Tensor], torch.Tensor],
    low: torch.Tensor,
    ratio: torch.Tensor,
    offsets: torch.Tensor,
    centre: torch.Tensor | None,
) -> torch.Tensor:
    best = torch.zeros_like(low)
    least = torch.full_like(low, torch.inf)
    for offset in offsets.tolist():
        exponent = torch.full_like(low, offset) if centre is None else centre + offset
        exponent = exponent.clamp(0.0, 1.0)
        found = error(low * ratio**exponent)
        best = torch.where(found < least, exponent, best)
        least = torch.minimum(found, least)
    return best
