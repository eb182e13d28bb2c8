"""LSQ+: a learned step, and a learned offset where values are not symmetric."""

from __future__ import annotations

import torch

from .grid import AFFINE
from .learned_clip import LearnedClipQuantizer
from .quantizer import Range, register_quantizer
from .value_statistics import ValueStatistics

_DEVIATIONS = 3.0


@register_quantizer("lsq+")
class LSQPlusQuantizer(LearnedClipQuantizer):
    """Step ``s`` and offset ``beta`` are learned: codes span ``[beta, beta + (2**bits - 1) s]``.

    Weights are symmetric and start from ``s = max(|mu - 3 sigma|, |mu + 3 sigma|) / 2**(bits-1)``;
    activations start from the step and offset of least squared error. The gradient of ``beta`` is
    1 outside the clip and 0 inside; all are scaled by ``1 / sqrt(N * Q)`` (Bhalgat et al., LSQ+:
    Improving low-bit quantization through learnable offsets and better initialization, 2020,
    sections 3.1 to 3.3). Unlike in the paper, the offset is rounded to a zero-point, with a
    straight-through gradient, so that zero is on the grid and engines can compute with it.
    """

    input_grid = AFFINE
    learns_offset = True
    scales_gradient = True

    def own_start(self, values: ValueStatistics) -> Range | None:
        """Return three deviations around the mean of weights; least error for activations."""
        if self.channels is None:
            return None
        reach = _DEVIATIONS * values.std
        largest = torch.maximum((values.mean - reach).abs(), (values.mean + reach).abs())
        clip = largest * self.grid.clip_steps / 2 ** (self.grid.bits - 1)
        return -clip, clip
