"""The product ``softmax(q kᵀ / sqrt(d)) v`` with every factor on an integer grid of 8 bits.

With steps ``s_q, s_k, s_v`` and codes ``Q, K, V`` of the queries, keys and values, for each query::

    s = Q Kᵀ (s_q s_k / sqrt(d))            exact integer sums
    P = round(255 exp(s - max s))           0 ... 255; the largest is always 255
    y = (P V) s_v / sum(P)

Normalised probabilities have no good fixed grid: among thousands of keys all of them are small, and
a step of 1/255 would round them to zero. ``exp(s - max s)`` always reaches 1, and the division
comes after the product, by the sum of the rounded values, so that what is averaged still has
weights which sum to 1. That keeps a linear layer exchangeable with the attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..quantizers.grid import Grid
from ..quantizers.quantizer import Quantizer

GRID = Grid(8)
"""Codes of queries, keys and values: symmetric ones, so that their product is one of integers.

Only values that are quantized before their projection are on that one's grid, whatever it is.
"""

PROBABILITY_STEP = 1.0 / 255.0
"""Step of ``exp(s - max s)``, whose codes are unsigned."""

_QUERY_BLOCK = 256
"""Queries whose scores are in memory at a time."""


class AttentionProduct(nn.Module):
    """Takes the place of ``F.scaled_dot_product_attention``.

    Until its quantizers are set it computes the float product, and what goes through the modules
    ``q``, ``k`` and ``v`` can be observed.

    Attributes:
        q: quantizer of the queries, per tensor, or the identity.
        k: the same for the keys.
        v: the same for the values; the identity too where they are on a grid already.
        values_first: the values were quantized before they came here.
        enabled: compute with integers, if there are quantizers.
    """

    def __init__(self, *, values_first: bool = False) -> None:
        super().__init__()
        self.q: nn.Module = nn.Identity()
        self.k: nn.Module = nn.Identity()
        self.v: nn.Module = nn.Identity()
        self.values_first = values_first
        self.enabled = True

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """The quantizers by the name of their part: ``q``, ``k``, and ``v`` where there is one."""
        parts = {"q": self.q, "k": self.k, "v": self.v}
        return {name: part for name, part in parts.items() if isinstance(part, Quantizer)}

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float = 0.0
    ) -> torch.Tensor:
        """Return the attention's result ``[..., n, e]``.

        Args:
            q: queries ``[..., n, d]``.
            k: keys ``[..., m, d]``.
            v: values ``[..., m, e]``.
            dropout_p: the share of weights that are set to zero, in training.
        """
        found = self.quantizers
        if not (found and self.enabled):
            if not found:
                q, k, v = self.q(q), self.k(k), v if self.values_first else self.v(v)
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
        q, k = _codes(self.q(q), found["q"].scale), _codes(self.k(k), found["k"].scale)
        v = v if self.values_first else self.v(v)
        step = found["q"].scale * q.shape[-1] ** -0.5 * found["k"].scale
        blocks = torch.split(q, _QUERY_BLOCK, dim=-2)
        return torch.cat([_attend(block, k, v, step, dropout_p) for block in blocks], dim=-2)


def probability_codes(scores: torch.Tensor) -> torch.Tensor:
    """Return ``round(255 exp(s - max s))`` over the last axis, as floats.

    The gradient is that of ``255 exp(s - max s)``: nothing is ever clipped.
    """
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    return _round(weights / torch.tensor(PROBABILITY_STEP, device=scores.device))


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, step: torch.Tensor, dropout_p: float
) -> torch.Tensor:
    # Codes are small integers, so float32 holds the sums exactly, in whatever order they are made.
    weights = probability_codes((q @ k.transpose(-2, -1)) * step)
    total = weights.sum(dim=-1, keepdim=True)
    return F.dropout(weights, dropout_p) @ v / total


def _codes(on_grid: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return _round(on_grid / step)


def _round(x: torch.Tensor) -> torch.Tensor:
    """Round halves to even; the gradient passes straight through, and the value is exact."""
    return torch.round(x).detach() + (x - x.detach())
