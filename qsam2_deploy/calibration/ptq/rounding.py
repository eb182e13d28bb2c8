"""AdaRound: learning for every weight whether it is rounded up or down.

M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos, T. Blankevoort: "Up or Down? Adaptive Rounding
for Post-Training Quantization", ICML 2020, arXiv 2004.10568, section 3.3. With step s, the soft
weight is ``s * clamp(floor(w / s) + h(v), qmin, qmax)`` with the rectified sigmoid
``h(v) = clamp(1.2 * sigmoid(v) - 0.1, 0, 1)``, and the regulariser ``sum(1 - |2 h - 1|^beta)``
drives h to 0 or 1 as beta falls. On a mid-rise grid the levels are half-integers, and ``floor``
stands for the next level below.
"""

from __future__ import annotations

import torch
from torch import nn

from ...quant.quantizers.quantizer import Quantizer

_LOW, _HIGH = -0.1, 1.1
_MARGIN = 1e-4


class SoftRounding(nn.Module):
    """Stands for the quantizer of a weight's rows ``[out, n]`` while its rounding is learned.

    Attributes:
        v: what is learned, ``[out, n]``; it starts where the soft weight is the float weight.
    """

    floor: torch.Tensor
    step: torch.Tensor

    def __init__(self, rows: torch.Tensor, quantizer: Quantizer) -> None:
        """Start from ``rows [out, n]`` and the steps and codes of ``quantizer``."""
        super().__init__()
        self.grid = quantizer.grid
        self.register_buffer("step", quantizer.scale[:, None].clone())
        ratio = rows.detach() / self.step
        self.register_buffer("floor", (ratio - self.grid.centre).floor() + self.grid.centre)
        share = (ratio - self.floor).clamp(_MARGIN, 1.0 - _MARGIN)
        self.v = nn.Parameter(-torch.log((_HIGH - _LOW) / (share - _LOW) - 1.0))

    def up(self) -> torch.Tensor:
        """Return ``h``, how far every weight is rounded up, 0 to 1."""
        return (torch.sigmoid(self.v) * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Return the soft weight; ``rows`` are those of the start."""
        return self._weight(self.up())

    def regulariser(self, beta: float) -> torch.Tensor:
        """Return ``sum(1 - |2 h - 1|^beta)``: the number of undecided weights, softly."""
        return (1.0 - (2.0 * self.up() - 1.0).abs().pow(beta)).sum()

    @torch.no_grad()
    def hard(self) -> torch.Tensor:
        """Return the weights on the grid, levels times steps, to the bit what is quantized then."""
        return self._weight((self.up() >= 0.5).to(self.floor.dtype))

    def _weight(self, up: torch.Tensor) -> torch.Tensor:
        return (self.floor + up).clamp(*self.grid.limits()) * self.step  # type: ignore[arg-type]
