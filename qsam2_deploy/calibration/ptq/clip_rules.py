"""The baselines that choose clips only: least error, largest magnitude, percentile."""

from __future__ import annotations

import torch

from ...quant.quantizers.grid import AFFINE, Grid
from ..statistics import LayerStatistics
from .method import PtqMethod, register_ptq


@register_ptq("mse")
class MsePtq(PtqMethod):
    """Clips of least mean squared error, for weights per output channel; the default."""


@register_ptq("minmax")
class MinMaxPtq(PtqMethod):
    """The extremes are the clip: nothing is clipped."""

    def weight_clip(self, rows: torch.Tensor, grid: Grid) -> torch.Tensor:  # noqa: ARG002
        """Return the largest magnitude of every row."""
        return rows.abs().amax(dim=1)

    def input_range(self, statistics: LayerStatistics, grid: Grid) -> tuple[float, float]:
        """Return the extremes of the inputs, or the largest magnitude with both signs."""
        if grid.kind == AFFINE:
            return min(statistics.low, 0.0), max(statistics.high, 0.0)
        return -statistics.absmax, statistics.absmax


@register_ptq("percentile")
class PercentilePtq(PtqMethod):
    """The clip is a percentile of the magnitudes, whatever the number of bits.

    Of a row with few weights, the percentile lies between the two largest magnitudes. On an affine
    grid half of what is clipped lies below the range, and half above.
    """

    def weight_clip(self, rows: torch.Tensor, grid: Grid) -> torch.Tensor:  # noqa: ARG002
        """Return the percentile of every row, interpolated linearly."""
        return torch.quantile(rows.float().abs(), self.options.percentile / 100.0, dim=1)

    def input_range(self, statistics: LayerStatistics, grid: Grid) -> tuple[float, float]:
        """Return the percentiles of all values, to the width of a bin."""
        centres, counts = statistics.histogram.centres(), statistics.histogram.counts
        inside = self.options.percentile / 100.0
        if grid.kind == AFFINE:
            tail = (1.0 - inside) / 2
            low, high = (_quantile(centres, counts, share) for share in (tail, 1.0 - tail))
            low, high = max(low, statistics.low), min(high, statistics.high)
            return min(low, 0.0), max(high, 0.0)
        clip = min(_quantile(centres.abs(), counts, inside), statistics.absmax)
        return -clip, clip


def _quantile(values: torch.Tensor, counts: torch.Tensor, share: float) -> float:
    """Return the first of ``values``, in order, that ``share`` of all do not exceed."""
    order = values.argsort()
    below = counts[order].cumsum(0) / counts.sum()
    index = int(torch.searchsorted(below, share))
    return float(values[order][min(index, len(order) - 1)])
