"""What is known of some values, from which every method finds where to start."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ValueStatistics:
    """Statistics of a tensor, or of each of its rows: float tensors ``[]`` or ``[rows]``.

    Attributes:
        mean: mean.
        std: standard deviation of the population (divided by n).
        mean_abs: mean of the magnitudes.
        low: smallest value.
        high: largest value.
    """

    mean: torch.Tensor
    std: torch.Tensor
    mean_abs: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, *, per_row: bool) -> ValueStatistics:
        """Return the statistics of ``x``: of each row of ``[rows, n]``, or of all its values."""
        rows = x.flatten(1) if per_row else x.reshape(-1)
        std, mean = torch.std_mean(rows, dim=-1, correction=0)
        low, high = torch.aminmax(rows, dim=-1)
        return cls(mean, std, rows.abs().mean(dim=-1), low, high)

    @property
    def absmax(self) -> torch.Tensor:
        """Largest magnitude."""
        return torch.maximum(-self.low, self.high)

    def extremes(self, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the smallest and the largest value, or those of the magnitude."""
        return (-self.absmax, self.absmax) if symmetric else (self.low, self.high)

    @property
    def rms(self) -> torch.Tensor:
        """Root of the mean square."""
        return torch.hypot(self.std, self.mean)
