"""Quantizers that learn their clip freely, from wherever they start."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ...errors import InputError
from .affine import affine_step, affine_zero_point
from .grid import Grid
from .quantizer import Quantizer, Range, positive_step
from .value_statistics import ValueStatistics

OWN_START, EXTREMES = "own", "extremes"
STARTS = (OWN_START, "mse", EXTREMES)
"""Where learned clips can start from."""


class LearnedClipQuantizer(Quantizer):
    """Clips at ``start * exp(log_factor)``.

    What is learned is the logarithm of a factor, so that clips stay positive and one learning rate
    suits steps of all sizes; this goes for the offset as well, which is counted in ``start``.

    Attributes:
        start_from: ``own``, as the method's paper starts; ``mse``, at the clip of least squared
            error; or ``extremes``, the smallest and the largest value, as after an observer.
        start: clip threshold at the start, on an affine grid the width of the range;
            ``[channels]`` or ``[]``. NaN before the first observation.
        log_factor: learned, of the same shape.
        shift: the lower threshold, divided by ``start``; learned if the method
            ``learns_offset``. On an affine grid only.
    """

    option_names = ("start_from",)
    learns_offset: ClassVar[bool] = False
    start: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, grid: Grid, channels: int | None = None, *, start_from: str = OWN_START
    ) -> None:
        super().__init__(grid, channels)
        if start_from not in STARTS:
            raise InputError(f"start_from must be {' or '.join(STARTS)}, but got {start_from}")
        self.start_from = start_from
        self._started = False
        self.log_factor = nn.Parameter(torch.zeros(self._shape()))
        self.register_buffer("start", torch.full(self._shape(), torch.nan))
        if self.is_affine and self.learns_offset:
            self.shift = nn.Parameter(torch.zeros(self._shape()))
        elif self.is_affine:
            self.register_buffer("shift", torch.zeros(self._shape()))

    def clip(self) -> torch.Tensor:
        """Return the clip threshold, or the width of the range, float64, differentiable."""
        # float64, so that a reload on another machine rounds to the same float32 step.
        return self.start.double() * self.log_factor.double().exp()

    def step(self) -> torch.Tensor:
        """Return the clip over ``grid.clip_steps``, float32 ``[channels]`` or ``[]``."""
        return positive_step(self.clip() / self.grid.clip_steps)

    def offset(self, step: torch.Tensor) -> torch.Tensor | None:
        """Return the code at which the grid starts with the lower threshold, if it is affine."""
        if not self.is_affine:
            return None
        if self.learns_offset:
            return affine_zero_point(self.shift * self.start, step, self.grid)
        # The lower threshold follows the width, so that the zero-point stays.
        lowest = self.shift * self.grid.clip_steps
        return affine_zero_point(lowest, torch.ones_like(step), self.grid)

    def start_range(self, values: ValueStatistics) -> Range | None:
        """Return the thresholds that were chosen; None for those of least MSE."""
        if self.start_from == EXTREMES:
            return values.extremes(symmetric=not self.is_affine)
        return self.own_start(values) if self.start_from == OWN_START else None

    def own_start(self, values: ValueStatistics) -> Range | None:  # noqa: ARG002
        """Return the thresholds of the method's paper; None for those of least MSE."""
        return None

    def observe(self, x: torch.Tensor) -> None:
        """Start from the first values that are seen; later ones change nothing."""
        if self._has_started():
            return
        values = self._statistics(x)
        found = self.start_range(values)
        low, clip = (values.low, values.high) if found is None else found
        if not self.is_affine:
            clip = torch.maximum(-low, clip)
        self.warm_start(clip, values.std, values.mean, low)

    @torch.no_grad()
    def warm_start(
        self,
        clip: torch.Tensor,
        std: torch.Tensor,  # noqa: ARG002
        mean: torch.Tensor,  # noqa: ARG002
        low: torch.Tensor | None = None,
    ) -> None:
        """Start from ``clip``; the factor is 1 again."""
        self.log_factor.zero_()
        if not self.is_affine:
            self.start.copy_(clip)
            return
        low = (-clip if low is None else low).clamp_max(0)
        width = affine_step(low, clip, self.grid) * self.grid.clip_steps
        self.start.copy_(width)
        self.shift.copy_(low / width)

    def _has_started(self) -> bool:
        # Asking a tensor makes a GPU wait, so that it is done only until the answer is yes.
        self._started = self._started or not bool(self.start.isnan().any())
        return self._started
