"""Learnable Statistical Clipping: clip at a learned multiple of a running standard deviation."""

from __future__ import annotations

import torch
from torch import nn

from .grid import Grid
from .quantizer import Quantizer, positive_step, register_quantizer, tensor_statistics

GAUSSIAN_ALPHA = {2: 1.0479, 3: 1.8041, 4: 2.3712, 5: 2.8317, 6: 3.2267, 7: 3.5868, 8: 3.9025}
"""``alpha`` of least mean squared error for a standard normal variable, per number of bits.

Found numerically on this grid, whose positive clip is ``qmax`` steps and whose negative clip is
``qmax + 1``.
"""

_MAX_ALPHA = 1024.0


@register_quantizer("lsc")
class LSCQuantizer(Quantizer):
    """The step is ``s = alpha * sigma / Q`` with ``Q = qmax``.

    ``sigma`` (and ``mu``, kept for the record) are running statistics,
    ``sigma <- m * sigma + (1 - m) * std(x)``, without a gradient; ``log_alpha`` is learned. With
    ``v = x / s`` the gradient of alpha is ``(sigma / Q) * (round(v) - v)`` inside the clip and
    ``(sigma / Q) * level`` outside, summed over the values of a step and scaled by
    ``1 / sqrt(N * Q)``, ``N`` being their number (Q-SAM2, arXiv 2506.09782, with the gradient
    scale of LSQ).

    Attributes:
        momentum: ``m``, the share that the running statistics keep at each observation.
    """

    scales_gradient = True
    sigma: torch.Tensor
    mu: torch.Tensor

    def __init__(self, grid: Grid, channels: int | None = None, *, momentum: float = 0.99) -> None:
        super().__init__(grid, channels)
        self.momentum = momentum
        self.log_alpha = nn.Parameter(torch.full(self._shape(), GAUSSIAN_ALPHA[grid.bits]).log())
        # NaN until the first observation: a quantizer without statistics must not look like one.
        self.register_buffer("sigma", torch.full(self._shape(), torch.nan))
        self.register_buffer("mu", torch.full(self._shape(), torch.nan))

    def step(self) -> torch.Tensor:
        """Return ``alpha * sigma / Q``, float32 ``[channels]`` or ``[]``."""
        # float64, so that a reload on another machine rounds to the same float32 step.
        alpha = self.log_alpha.double().exp()
        return positive_step(alpha * self.sigma.double() / self.grid.qmax)

    def observe(self, x: torch.Tensor) -> None:
        """Move the running statistics towards those of ``x``; the first call sets them."""
        std, mean = tensor_statistics(x, per_row=self.channels is not None)
        for running, new in ((self.sigma, std), (self.mu, mean)):
            kept = torch.where(running.isnan(), new, running)
            running.copy_(torch.lerp(new, kept, self.momentum))

    @torch.no_grad()
    def warm_start(self, clip: torch.Tensor, std: torch.Tensor, mean: torch.Tensor) -> None:
        """Set ``sigma`` and ``mu``, and ``alpha = clip / sigma``."""
        clip, std = clip.double(), std.double()
        # A channel whose values are all equal deviates by nothing, but needs a step.
        std = torch.maximum(std, clip / _MAX_ALPHA)
        self.sigma.copy_(std)
        self.mu.copy_(mean)
        default = torch.full_like(clip, GAUSSIAN_ALPHA[self.grid.bits])
        alpha = torch.where(clip > 0, clip / self.sigma.double(), default)
        self.log_alpha.copy_(alpha.log())
