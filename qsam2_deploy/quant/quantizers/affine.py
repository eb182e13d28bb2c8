"""From a range of values to the step and the zero-point of an affine grid."""

from __future__ import annotations

import torch

from .grid import Grid
from .quantizer import positive_step


def affine_step(low: torch.Tensor, high: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the step at which the codes span ``[low, high]`` and zero, float32.

    Args:
        low: lower thresholds, of any shape.
        high: upper thresholds, of the same shape.
        grid: an affine grid.
    """
    return positive_step((high.clamp_min(0) - low.clamp_max(0)) / grid.clip_steps)


def affine_zero_point(low: torch.Tensor, step: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the code of zero, where the lowest code stands for ``low``.

    The integer is ``clamp(round(qmin - low / step), qmin, qmax)`` in float32; rounding lets the
    gradient pass.
    """
    exact = (grid.qmin - low.to(torch.float32) / step).clamp(grid.qmin, grid.qmax)
    return exact + (exact.round() - exact).detach()
