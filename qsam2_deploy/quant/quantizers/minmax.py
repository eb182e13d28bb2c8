"""The baseline: the step covers the largest magnitude."""

from __future__ import annotations

from .quantizer import Range, register_quantizer
from .running_range import RunningRangeQuantizer
from .value_statistics import ValueStatistics


@register_quantizer("minmax")
class MinMaxQuantizer(RunningRangeQuantizer):
    """Running extremes: ``s = max|x| / Q``, on an affine grid ``s = (max x - min x) / Q``.

    Nothing is learned. (Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, 2018, section 3.1, with its moving averages.)
    """

    @property
    def needs_extremes(self) -> bool:
        """They are all that it observes."""
        return True

    def start_range(self, values: ValueStatistics) -> Range:
        """Return the extremes, on a symmetric grid those of the magnitude."""
        return values.extremes(symmetric=not self.is_affine)
