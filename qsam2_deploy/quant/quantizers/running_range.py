"""Quantizers that learn nothing: their clip follows from statistics of what they see."""

from __future__ import annotations

from abc import abstractmethod

import torch

from .affine import affine_step, affine_zero_point
from .grid import Grid
from .quantizer import Quantizer, Range, checked_momentum, positive_step
from .value_statistics import ValueStatistics

MOMENTUM = 0.99


class RunningRangeQuantizer(Quantizer):
    """Clips at a running mean of what :meth:`start_range` finds in each tensor.

    Attributes:
        momentum: the share that the running thresholds keep at each observation. The default is
            0.99, and 0 for the weights of a method that ``recomputes_weights``.
        clip: upper threshold, ``[channels]`` or ``[]``; NaN before the first observation.
        low: lower threshold likewise, on an affine grid only.
    """

    option_names = ("momentum",)
    clip: torch.Tensor
    low: torch.Tensor

    def __init__(
        self, grid: Grid, channels: int | None = None, *, momentum: float | None = None
    ) -> None:
        super().__init__(grid, channels)
        if momentum is None:
            momentum = 0.0 if self.recomputes_weights and channels is not None else MOMENTUM
        self.momentum = checked_momentum(momentum)
        # NaN until the first observation: a quantizer without statistics must not look like one.
        self.register_buffer("clip", torch.full(self._shape(), torch.nan))
        if self.is_affine:
            self.register_buffer("low", torch.full(self._shape(), torch.nan))

    def step(self) -> torch.Tensor:
        """Return the threshold over ``grid.clip_steps``, float32 ``[channels]`` or ``[]``."""
        if self.is_affine:
            return affine_step(self.low.double(), self.clip.double(), self.grid)
        return positive_step(self.clip.double() / self.grid.clip_steps)

    def offset(self, step: torch.Tensor) -> torch.Tensor | None:
        """Return the code at which the grid starts with ``low``, if it is affine."""
        return affine_zero_point(self.low, step, self.grid) if self.is_affine else None

    def observe(self, x: torch.Tensor) -> None:
        """Move the thresholds towards those of ``x``; the first call sets them."""
        low, clip = self.start_range(self._statistics(x))
        self._follow(self.clip, clip)
        if self.is_affine:
            self._follow(self.low, low)

    def warm_start(
        self,
        clip: torch.Tensor,
        std: torch.Tensor,  # noqa: ARG002
        mean: torch.Tensor,  # noqa: ARG002
        low: torch.Tensor | None = None,
    ) -> None:
        """Set the running thresholds."""
        self.clip.copy_(clip)
        if self.is_affine:
            self.low.copy_(-clip if low is None else low)

    @abstractmethod
    def start_range(self, values: ValueStatistics) -> Range:
        """Return the thresholds of values with these statistics."""

    def _follow(self, running: torch.Tensor, new: torch.Tensor) -> None:
        new = new.to(running.dtype)
        kept = torch.where(running.isnan(), new, running)
        running.copy_(torch.lerp(new, kept, self.momentum))
