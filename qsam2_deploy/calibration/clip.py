"""Clip thresholds of least mean squared error: exact for weights, from a histogram for inputs.

The error of a clip is unimodal but for rounding effects, so both functions look at a geometric
row of candidates from a fraction of the root mean square to the largest magnitude, and then more
closely around the best.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..quant.grid import MIN_SCALE, Grid, dequantize, quantize
from ..quant.quantizer import Quantizer
from .histogram import Histogram
from .statistics import LayerStatistics

_CANDIDATES = 32
_REFINEMENTS = 8
_LOWEST = 0.3


def weight_clip(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the best clip of every output channel.

    Args:
        weight: ``[out, in]``.
        grid: its integer grid.

    Returns:
        float32 ``[out]``; 0 for a channel of zeros.
    """
    values = weight.float()
    absmax = values.abs().amax(dim=1)
    rms = values.square().mean(dim=1).sqrt()

    def error(clips: torch.Tensor) -> torch.Tensor:
        scale = (clips / grid.qmax).clamp_min(MIN_SCALE)[:, None]
        return (dequantize(quantize(values, scale, grid), scale) - values).square().sum(dim=1)

    return _search(error, _LOWEST * rms, absmax)


def histogram_clip(histogram: Histogram, grid: Grid) -> float:
    """Return the best clip for the values of a histogram; 0 if they are all zero."""
    used = torch.nonzero(histogram.counts).flatten()
    if histogram.limit == 0.0 or not len(used):
        return 0.0
    values, counts = histogram.centres()[used], histogram.counts[used]
    rms = (counts @ values.square() / counts.sum()).sqrt()

    def error(clips: torch.Tensor) -> torch.Tensor:
        scale = clips / grid.qmax
        difference = dequantize(quantize(values, scale, grid), scale) - values
        return (counts @ difference.square())[None]

    return float(_search(error, _LOWEST * rms[None], values.abs().amax()[None])[0])


@torch.no_grad()
def start_from_statistics(
    quantizer: Quantizer, statistics: LayerStatistics, clip: float | None = None
) -> None:
    """Start a quantizer of activations, in place, from what was observed of them.

    Args:
        quantizer: of one step.
        statistics: of the activations.
        clip: threshold; the default is the best one, or the largest magnitude for a quantizer that
            starts from it.
    """
    if clip is None:
        best = histogram_clip(statistics.histogram, quantizer.grid)
        clip = statistics.absmax if quantizer.starts_from_absmax else best
    device = quantizer.scale.device
    quantizer.warm_start(
        *(torch.tensor(v, device=device) for v in (clip, statistics.std, statistics.mean))
    )


def weight_quantization_error(weight: torch.Tensor, grid: Grid) -> float:
    """Return ``||W - quantized W|| / ||W||`` with the best clips; 0 for zeros."""
    scale = (weight_clip(weight, grid) / grid.qmax).clamp_min(MIN_SCALE)[:, None]
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
