"""StatsQ: weights clipped at twice their mean magnitude, anew in every step."""

from __future__ import annotations

import torch

from .grid import MIDRISE, SYMMETRIC, straight_through
from .quantizer import Range, register_quantizer
from .running_range import RunningRangeQuantizer
from .value_statistics import ValueStatistics


@register_quantizer("statsq")
class StatsQuantizer(RunningRangeQuantizer):
    """The step is ``s = S / 2**(bits-1)`` with ``S = 2 E|w|`` of each row.

    Nothing is learned and nothing is remembered: the statistic is that of the present weights, so
    that steps do not oscillate against them (Liu et al., Oscillation-free Quantization for Low-bit
    Vision Transformers, 2023, section 4.1). ``S`` is where the last cell of the mid-rise grid
    ends, half a step beyond its outermost level. The gradient of a weight is 1, beyond the clip
    too, as in the paper's code (``quan - w.detach() + w``). The paper's activations are LSQ's, and
    so are those of the method ``statsq``; as a quantizer of activations this one takes a running
    mean of ``S``.
    """

    grids = (MIDRISE, SYMMETRIC)
    weight_grid = MIDRISE
    for_inputs = "lsq"
    recomputes_weights = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` on the grid, in its own shape; its gradient passes everywhere."""
        with torch.no_grad():
            values = super().forward(x)
        return straight_through(x, values)

    def start_range(self, values: ValueStatistics) -> Range:
        """Return the outermost levels."""
        step = 2.0 * values.mean_abs / 2 ** (self.grid.bits - 1)
        clip = step * self.grid.clip_steps
        return -clip, clip
