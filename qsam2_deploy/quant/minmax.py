"""The baseline: the step covers the largest magnitude."""

from __future__ import annotations

import torch

from .grid import Grid
from .quantizer import Quantizer, positive_step, register_quantizer


@register_quantizer("minmax")
class MinMaxQuantizer(Quantizer):
    """The step is ``s = max|x| / Q``, the maximum being a running one; nothing is learned.

    Attributes:
        momentum: the share that the running maximum keeps at each observation.
    """

    starts_from_absmax = True
    absmax: torch.Tensor

    def __init__(self, grid: Grid, channels: int | None = None, *, momentum: float = 0.99) -> None:
        super().__init__(grid, channels)
        self.momentum = momentum
        self.register_buffer("absmax", torch.full(self._shape(), torch.nan))

    def step(self) -> torch.Tensor:
        """Return ``absmax / Q``, float32 ``[channels]`` or ``[]``."""
        return positive_step(self.absmax.double() / self.grid.qmax)

    def observe(self, x: torch.Tensor) -> None:
        """Move the running maximum towards that of ``x``; the first call sets it."""
        new = x.abs().amax(dim=tuple(range(1 if self.channels else 0, x.ndim)))
        kept = torch.where(self.absmax.isnan(), new, self.absmax)
        self.absmax.copy_(torch.lerp(new, kept, self.momentum))

    def warm_start(self, clip: torch.Tensor, std: torch.Tensor, mean: torch.Tensor) -> None:  # noqa: ARG002
        """Set the running maximum to ``clip``."""
        self.absmax.copy_(clip)
