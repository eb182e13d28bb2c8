"""Stand-ins for the quantizer of an activation while its step is learned."""

from __future__ import annotations

import torch
from torch import nn

from ...quant.layers.layer import QuantLayer
from ...quant.quantizers.grid import fake_quantize
from ..statistics import LayerStatistics


class LearnedStep(nn.Module):
    """Quantizes with ``exp(log_factor)`` times the step of a quantizer; the factor is learned.

    A zero-point stays what it is, so that both ends of an affine grid move by the same factor. The
    gradient is that of LSQ (S. K. Esser et al., "Learned Step Size Quantization", ICLR 2020).
    In training mode every value is left as it is with the probability ``drop``: QDrop (X. Wei et
    al., "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization",
    ICLR 2022, arXiv 2203.05740, section 3.3). In evaluation mode nothing is ever dropped.
    """

    step: torch.Tensor

    def __init__(
        self, layer: QuantLayer, drop: float = 0.0, generator: torch.Generator | None = None
    ) -> None:
        """Start from the step of the layer's input quantizer."""
        super().__init__()
        self.grid = layer.input_quantizer.grid
        self.drop, self._generator = drop, generator
        self.zero_point = layer.input_quantizer.zero_point
        self.register_buffer("step", layer.input_quantizer.scale.clone())
        self.log_factor = nn.Parameter(torch.zeros(()))

    def learned(self) -> torch.Tensor:
        """Return the present step, float32 ``[]``."""
        return self.step * self.log_factor.exp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` on the grid, but for what is dropped."""
        quantized = fake_quantize(x, self.learned(), self.grid, self.zero_point)
        if not self.training or self.drop == 0.0:
            return quantized
        return mix(x, quantized, self.drop, self._generator)

    @torch.no_grad()
    def settle(self, layer: QuantLayer, statistics: LayerStatistics) -> None:
        """Give the learned step to the layer's own quantizer."""
        step = self.learned()
        values = statistics.values(step.device)
        low, high = (step * level for level in self.grid.limits(self.zero_point))
        layer.input_quantizer.warm_start(high, values.std, values.mean, low)


def mix(
    first: torch.Tensor, second: torch.Tensor, share: float, generator: torch.Generator | None
) -> torch.Tensor:
    """Return values of ``first`` with the probability ``share``, else those of ``second``."""
    chosen = torch.rand(first.shape, generator=generator) < share
    return torch.where(chosen.to(first.device), first, second)
