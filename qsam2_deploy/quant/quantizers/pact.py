"""PACT: a learned clipping threshold for activations."""

from __future__ import annotations

import torch

from .learned_clip import LearnedClipQuantizer
from .quantizer import register_quantizer


@register_quantizer("pact")
class PACTQuantizer(LearnedClipQuantizer):
    """The threshold ``alpha`` is learned from clipped values alone: ``s = alpha / Q``.

    The gradient of ``alpha`` is 1 where a value is clipped and 0 inside, where LSQ also counts the
    rounding error; so the L2 norm of the thresholds must be added to the loss, or nothing makes
    them smaller (Choi et al., PACT: Parameterized Clipping Activation for Quantized Neural
    Networks, 2018, section 3). :meth:`penalty` is that norm. The paper's activations come from
    ReLU and are clipped to ``[0, alpha]``, its weights are those of SAWB (Choi et al., Accurate and
    Efficient 2-bit Quantized Neural Networks, 2019, section 3), as in the method ``pact``.

    - On a symmetric grid values are clipped to ``[-alpha - s, alpha]``: the signed version.
    - On an affine one ``alpha`` is the width of the range, and the zero-point, which is not
      learned, stays that of the warm start: for values without negative ones it is the first code,
      and the range is ``[0, alpha]`` as in the paper.

    What is learned is ``log alpha``.
    """

    for_weights = "sawb"
    rounding_gradient = False

    def penalty(self) -> torch.Tensor:
        """Return the sum of the squared thresholds, float32 ``[]``."""
        return self.clip().float().square().sum()
