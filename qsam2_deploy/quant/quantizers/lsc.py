"""Learnable Statistical Clipping: clip at a learned multiple of a running standard deviation."""

from __future__ import annotations

import torch
from torch import nn

from .affine import affine_step, affine_zero_point
from .grid import SYMMETRIC, Grid
from .quantizer import (
    Quantizer,
    checked_flag,
    checked_momentum,
    positive_step,
    register_quantizer,
    tensor_statistics,
)

GAUSSIAN_ALPHA = {2: 1.0479, 3: 1.8041, 4: 2.3712, 5: 2.8317, 6: 3.2267, 7: 3.5868, 8: 3.9025}
"""``alpha`` of least mean squared error for a standard normal variable, per number of bits.

Found numerically on the symmetric grid, whose positive clip is ``qmax`` steps and whose negative
clip is ``qmax + 1``.
"""

BALANCED_ALPHA = {2: 1.4936, 3: 2.0511, 4: 2.5142, 5: 2.9164, 6: 3.2781, 7: 3.6111, 8: 3.9222}
"""The same on grids that have as many levels above the mean as below: mid-rise and affine ones."""

MIN_ALPHA = 0.05
"""Below this factor a clip counts as collapsed: 96 % of normal values would be clipped."""

_MAX_ALPHA = 1024.0


@register_quantizer("lsc")
class LSCQuantizer(Quantizer):
    """The step is ``s = alpha * sigma / Q``.

    ``sigma`` and ``mu`` are running statistics, ``sigma <- m * sigma + (1 - m) * std(x)``, without
    a gradient; ``log_alpha`` is learned. With ``v = x / s`` the gradient of alpha is ``(sigma / Q)
    * (round(v) - v)`` inside the clip and ``(sigma / Q) * level`` outside, summed over the values
    of a step and scaled by ``1 / sqrt(N * Q)``, ``N`` being their number (Q-SAM2, arXiv
    2506.09782, with the gradient scale of LSQ).

    On an affine grid the clip is ``[mu - alpha_0 * sigma, mu + alpha_1 * sigma]``: each side has a
    factor of its own, because values such as those behind a GELU lie on one side. Elsewhere ``mu``
    is for the record.

    Attributes:
        momentum: ``m``, the share that the running statistics keep at each observation.
        learn_alpha: learn the factor; with False it is a buffer that keeps its start, so that the
            statistics alone move the clip.
        log_alpha: ``[channels]`` or ``[]``; on an affine grid ``[..., 2]``, the lower side first.
    """

    option_names = ("momentum", "learn_alpha")
    scales_gradient = True
    sigma: torch.Tensor
    mu: torch.Tensor
    log_alpha: torch.Tensor

    def __init__(
        self,
        grid: Grid,
        channels: int | None = None,
        *,
        momentum: float = 0.99,
        learn_alpha: bool = True,
    ) -> None:
        super().__init__(grid, channels)
        self.momentum = checked_momentum(momentum)
        self.learn_alpha = checked_flag("learn_alpha", learn_alpha)
        sides = (2,) if self.is_affine else ()
        log_alpha = torch.full((*self._shape(), *sides), self._default_alpha()).log()
        if self.learn_alpha:
            self.log_alpha = nn.Parameter(log_alpha)
        else:
            self.register_buffer("log_alpha", log_alpha)
        # NaN until the first observation: a quantizer without statistics must not look like one.
        self.register_buffer("sigma", torch.full(self._shape(), torch.nan))
        self.register_buffer("mu", torch.full(self._shape(), torch.nan))

    def step(self) -> torch.Tensor:
        """Return the clip over ``Q``, float32 ``[channels]`` or ``[]``."""
        # float64, so that a reload on another machine rounds to the same float32 step.
        alpha, sigma = self.log_alpha.double().exp(), self.sigma.double()
        if not self.is_affine:
            return positive_step(alpha * sigma / self.grid.clip_steps)
        return affine_step(self._low(), self.mu.double() + alpha[..., 1] * sigma, self.grid)

    def offset(self, step: torch.Tensor) -> torch.Tensor | None:
        """Return the code at which the grid starts with the lower clip, if it is affine."""
        return affine_zero_point(self._low(), step, self.grid) if self.is_affine else None

    def observe(self, x: torch.Tensor) -> None:
        """Move the running statistics towards those of ``x``; the first call sets them."""
        std, mean = tensor_statistics(x, per_row=self.channels is not None)
        for running, new in ((self.sigma, std), (self.mu, mean)):
            kept = torch.where(running.isnan(), new, running)
            running.copy_(torch.lerp(new, kept, self.momentum))

    @torch.no_grad()
    def warm_start(
        self,
        clip: torch.Tensor,
        std: torch.Tensor,
        mean: torch.Tensor,
        low: torch.Tensor | None = None,
    ) -> None:
        """Set ``sigma`` and ``mu``, and the factors that give these thresholds."""
        clip, std, mean = clip.double(), std.double(), mean.double()
        if not self.is_affine:
            # A channel whose values are all equal deviates by nothing, but needs a step.
            self._start(clip, torch.maximum(std, clip / _MAX_ALPHA), mean)
            return
        low = (-clip if low is None else low.double()).clamp_max(0)
        reaches = torch.stack([mean - low, clip.clamp_min(0) - mean], dim=-1)
        self._start(reaches, torch.maximum(std, reaches.amax(dim=-1) / _MAX_ALPHA), mean)

    def collapsed(self) -> torch.Tensor:
        """Return where the step is the smallest, or a factor below :data:`MIN_ALPHA`."""
        # A side that starts at the limit must not look smaller for the rounding of its logarithm.
        small = self.log_alpha.detach().exp() < (1.0 - 1e-6) * MIN_ALPHA
        return super().collapsed() | (small.any(dim=-1) if self.is_affine else small)

    def _start(self, reach: torch.Tensor, sigma: torch.Tensor, mu: torch.Tensor) -> None:
        self.sigma.copy_(sigma)
        self.mu.copy_(mu)
        stored = self.sigma.double()
        alpha = reach / (stored[..., None] if self.is_affine else stored)
        # A side on which nothing lies has no factor; neither has a channel of zeros.
        other = MIN_ALPHA if self.is_affine else self._default_alpha()
        self.log_alpha.copy_(torch.where(alpha > 0, alpha, torch.full_like(reach, other)).log())

    def _low(self) -> torch.Tensor:
        alpha = self.log_alpha.double().exp()
        return self.mu.double() - alpha[..., 0] * self.sigma.double()

    def _default_alpha(self) -> float:
        table = GAUSSIAN_ALPHA if self.grid.kind == SYMMETRIC else BALANCED_ALPHA
        return table[self.grid.bits]
