"""Statistics-Aware Weight Binning: a clip from two moments."""

from __future__ import annotations

import torch

from .grid import MIDRISE, SYMMETRIC
from .quantizer import Range, register_quantizer
from .running_range import RunningRangeQuantizer
from .value_statistics import ValueStatistics

COEFFICIENTS = {2: (3.12, 2.064), 3: (7.509, 6.892), 4: (12.68, 12.80)}
"""``(c1, c2)`` per number of bits, as in the paper.

They are a line through the best clips of six distributions, each divided by ``E|x|``, over
``sqrt(E[x^2]) / E|x|``. From 5 bits on a line fits no longer: it would clip a fifth of uniform
values, at a multiple of the error of no clip at all.
"""


@register_quantizer("sawb")
class SAWBQuantizer(RunningRangeQuantizer):
    """The outermost level is ``alpha = c1 * sqrt(E[w^2]) - c2 * E|w|``, so ``s = alpha / Q``.

    Nothing is learned (Choi et al., Accurate and Efficient 2-bit Quantized Neural Networks, 2019,
    section 3). The paper's grid has ``2**bits`` levels from ``-alpha`` to ``alpha``, which is the
    mid-rise one; a symmetric grid has the same step, ``2 alpha / (2**bits - 1)``. ``alpha`` is at
    least ``E|w|``, which the line through the paper's points falls below where all magnitudes are
    equal. Above 4 bits, for which the paper has no constants, it is the largest magnitude. Weights
    are measured anew in every step, activations have a running mean of ``alpha``.
    """

    grids = (MIDRISE, SYMMETRIC)
    weight_grid = MIDRISE
    recomputes_weights = True

    @property
    def needs_extremes(self) -> bool:
        """Where the paper has no constants for the width, the largest magnitude counts."""
        return self.grid.bits not in COEFFICIENTS

    def start_range(self, values: ValueStatistics) -> Range:
        """Return the outermost levels."""
        alpha = self._alpha(values)
        clip = 2.0 * alpha * self.grid.clip_steps / (2**self.grid.bits - 1)
        return -clip, clip

    def _alpha(self, values: ValueStatistics) -> torch.Tensor:
        if self.grid.bits not in COEFFICIENTS:
            return values.absmax
        c1, c2 = COEFFICIENTS[self.grid.bits]
        return torch.maximum(c1 * values.rms - c2 * values.mean_abs, values.mean_abs)
