"""Learned Step Size Quantization."""

from __future__ import annotations

from .grid import MIDRISE, SYMMETRIC
from .learned_clip import LearnedClipQuantizer
from .quantizer import Range, register_quantizer
from .value_statistics import ValueStatistics


@register_quantizer("lsq")
class LSQQuantizer(LearnedClipQuantizer):
    """The step itself is learned, from ``s = 2 E|x| / sqrt(Q)``.

    Its gradient is ``round(v) - v`` inside the clip and the level outside, with ``v = x / s``,
    scaled by ``1 / sqrt(N * Q)`` (Esser et al., Learned Step Size Quantization, 2019, sections 2.1
    and 2.2). Here N counts all values that share the step, those of a batch included, and what is
    learned is ``log s``. On an affine grid it is :mod:`~qsam2_deploy.quant.quantizers.lsq_plus`.
    """

    grids = (SYMMETRIC, MIDRISE)
    scales_gradient = True

    def own_start(self, values: ValueStatistics) -> Range:
        """Return the thresholds of the paper's first step."""
        clip = 2.0 * values.mean_abs * self.grid.clip_steps**0.5
        return -clip, clip
