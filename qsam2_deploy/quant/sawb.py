"""Statistics-Aware Weight Binning: a clip from two moments."""

from __future__ import annotations

import torch

from .grid import MIDRISE, SYMMETRIC
from .quantizer import Range, register_quantizer
from .running_range import RunningRangeQuantizer
from .value_statistics import ValueStatistics

COEFFICIENTS = {
    2: (3.12, 2.064),
    3: (7.509, 6.892),
    4: (12.68, 12.80),
    5: (17.08, 17.99),
    6: (22.24, 24.07),
    7: (27.48, 30.28),
    8: (32.69, 36.48),
}
"""``(c1, c2)`` per number of bits: 2 to 4 of the paper, 5 to 8 found by its procedure.

That is a line through the best clips of six distributions (Gaussian, Laplace, logistic, uniform,
triangular, von Mises), each divided by ``E|x|``, over ``sqrt(E[x^2]) / E|x|``.
"""


@register_quantizer("sawb")
class SAWBQuantizer(RunningRangeQuantizer):
    """The outermost level is ``alpha = c1 * sqrt(E[w^2]) - c2 * E|w|``, so ``s = alpha / Q``.

    Nothing is learned (Choi et al., Accurate and Efficient 2-bit Quantized Neural Networks, 2019,
    section 3). The paper's grid has ``2**bits`` levels from ``-alpha`` to ``alpha``, which is the
    mid-rise one; a symmetric grid has the same step, ``2 alpha / (2**bits - 1)``. ``alpha`` is at
    least ``E|w|``, which the line through the paper's points falls below where all magnitudes are
    equal. Weights are measured anew in every step, activations have a running mean of ``alpha``.
    """

    grids = (MIDRISE, SYMMETRIC)
    weight_grid = MIDRISE
    recomputes_weights = True

    def start_range(self, values: ValueStatistics) -> Range:
        """Return the outermost levels."""
        c1, c2 = COEFFICIENTS[self.grid.bits]
        alpha = torch.maximum(c1 * values.rms - c2 * values.mean_abs, values.mean_abs)
        clip = 2.0 * alpha * self.grid.clip_steps / (2**self.grid.bits - 1)
        return -clip, clip
