"""The baselines that choose clips only: least error, largest magnitude, percentile."""

from __future__ import annotations

import torch

from ...quant.grid import Grid
from ..statistics import LayerStatistics
from .method import PtqMethod, register_ptq


@register_ptq("mse")
class MsePtq(PtqMethod):
    """Clips of least mean squared error, for weights per output channel; the default."""


@register_ptq("minmax")
class MinMaxPtq(PtqMethod):
    """The largest magnitude is the clip: nothing is clipped."""

    def weight_clip(self, rows: torch.Tensor, grid: Grid) -> torch.Tensor:  # noqa: ARG002
        """Return the largest magnitude of every row."""
        return rows.abs().amax(dim=1)

    def input_clip(self, statistics: LayerStatistics, grid: Grid) -> float:  # noqa: ARG002
        """Return the largest magnitude of the inputs."""
        return statistics.absmax


@register_ptq("percentile")
class PercentilePtq(PtqMethod):
    """The clip is a percentile of the magnitudes, whatever the number of bits.

    Of a row with few weights, the percentile lies between the two largest magnitudes.
    """

    def weight_clip(self, rows: torch.Tensor, grid: Grid) -> torch.Tensor:  # noqa: ARG002
        """Return the percentile of every row, interpolated linearly."""
        return torch.quantile(rows.float().abs(), self.options.percentile / 100.0, dim=1)

    def input_clip(self, statistics: LayerStatistics, grid: Grid) -> float:  # noqa: ARG002
        """Return the percentile of all values, to the width of a bin."""
        histogram = statistics.histogram
        magnitudes = histogram.centres().abs()
        order = magnitudes.argsort()
        share = histogram.counts[order].cumsum(0) / histogram.counts.sum()
        index = int(torch.searchsorted(share, self.options.percentile / 100.0))
        return min(float(magnitudes[order][min(index, len(order) - 1)]), statistics.absmax)
