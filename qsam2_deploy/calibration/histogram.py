"""A histogram of values whose range is not known beforehand."""

from __future__ import annotations

import torch

BINS = 1 << 15
"""Bins of a histogram: more than two per step of an 8-bit grid, wherever its clip is found."""


class Histogram:
    """Counts of values in equal bins over ``[-limit, limit]``; the range doubles when needed.

    Attributes:
        counts: float64 ``[BINS]``.
        limit: half the range; 0 before the first value that is not zero.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.limit = 0.0

    def add(self, values: torch.Tensor, absmax: float) -> None:
        """Count ``values`` (any shape), whose largest magnitude is ``absmax``."""
        if absmax > self.limit:
            self._grow(absmax)
        if self.limit == 0.0:
            self.counts[BINS // 2] += values.numel()
            return
        new = torch.histc(values.float(), BINS, -self.limit, self.limit)
        self.counts += new.to("cpu", torch.float64)

    def centres(self) -> torch.Tensor:
        """Return the middle of every bin, float64 ``[BINS]``."""
        width = 2 * self.limit / BINS
        return (torch.arange(BINS, dtype=torch.float64) + 0.5) * width - self.limit

    def used(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the middles and the counts of the bins that are not empty, float64."""
        used = torch.nonzero(self.counts).flatten()
        return self.centres()[used], self.counts[used]

    def _grow(self, absmax: float) -> None:
        if self.limit == 0.0:
            self.limit = absmax
            return
        while self.limit < absmax:
            # Twice the range: two bins become one, all in the middle half.
            merged = self.counts.view(-1, 2).sum(dim=1)
            self.counts = torch.nn.functional.pad(merged, (BINS // 4, BINS // 4))
            self.limit *= 2
