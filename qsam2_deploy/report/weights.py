"""How weights are distributed, block by block, and over the range of their quantizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..quant.layers.layer import QuantLayer
from .layers import block_of, clip_range, row_steps

QUANTILES = (0.001, 0.25, 0.5, 0.75, 0.999)
_BINS = 160
_MARGIN = 1.6
"""Of a histogram around the range of its quantizer."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """Weights of all quantized layers of one block.

    Attributes:
        block: its name.
        std: standard deviation of a population.
        absmax: largest magnitude.
        quantiles: at :data:`QUANTILES`.
    """

    block: str
    std: float
    absmax: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class ClippedHistogram:
    """Values of a layer and the range of its quantizer.

    Attributes:
        edges: of the bins, ascending; values beyond them count in the outermost bins.
        shares: share of all values in each bin, percent.
        low: lowest level.
        high: highest level.
        levels: number of levels between them, both included.
    """

    edges: Values
    shares: Values
    low: float
    high: float
    levels: int


def distributions(weights: Mapping[str, torch.Tensor]) -> list[Distribution]:
    """Return the distribution in each block of weights that are given by layer, in their order."""
    blocks: dict[str, list[torch.Tensor]] = {}
    for name, weight in weights.items():
        blocks.setdefault(block_of(name), []).append(weight.detach().double().flatten())
    return [_distribution(block, torch.cat(parts)) for block, parts in blocks.items()]


def _distribution(block: str, values: torch.Tensor) -> Distribution:
    found = np.quantile(values.numpy(), QUANTILES)
    return Distribution(
        block=block,
        std=float(values.std(correction=0)),
        absmax=float(values.abs().max()),
        quantiles=tuple(float(value) for value in found),
    )


@torch.no_grad()
def weight_histogram(layer: QuantLayer) -> ClippedHistogram:
    """Return the weights of a layer in steps of their own output channel."""
    quantizer = layer.weight_quantizer
    step = row_steps(quantizer)
    low, high = (float((end / step).flatten()[0]) for end in clip_range(quantizer))
    steps = (layer.weight_rows() / step).double().flatten().numpy()
    return _histogram(steps, np.ones_like(steps), low, high, 1 << quantizer.grid.bits)


@torch.no_grad()
def input_histogram(layer: QuantLayer, centres: Values, counts: Values) -> ClippedHistogram:
    """Return the inputs of a layer, in their own unit, from a finer histogram."""
    quantizer = layer.input_quantizer
    low, high = (float(end) for end in clip_range(quantizer))
    return _histogram(centres, counts, low, high, 1 << quantizer.grid.bits)


def _histogram(
    values: Values, counts: Values, low: float, high: float, levels: int
) -> ClippedHistogram:
    used = values[counts > 0]
    middle, reach = (low + high) / 2, _MARGIN * (high - low) / 2
    start = min(low, max(float(used.min(initial=low)), middle - reach))
    end = max(high, min(float(used.max(initial=high)), middle + reach))
    edges = np.linspace(start, end, _BINS + 1)
    found, _ = np.histogram(np.clip(values, start, end), edges, weights=counts)
    return ClippedHistogram(edges, 100 * found / max(counts.sum(), 1), low, high, levels)
