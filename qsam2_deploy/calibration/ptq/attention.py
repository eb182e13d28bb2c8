"""Quantized attention products of the image encoder, in PyTorch only.

The second part of PTQ4SAM (C. Lv et al., arXiv 2405.03144, section 3.3), adaptive granularity
quantization: probabilities after the softmax get a logarithmic grid ``2^(-c / tau)`` whose tau, a
power of two, is searched for every attention. Queries, keys and values get a uniform grid per
tensor. No entry of a checkpoint holds any of this and it cannot be exported: integer products take
uniform codes. It is here to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..._common.progress import progress
from ...quant.quantizers.grid import MIN_SCALE, Grid, fake_quantize
from ..clip import histogram_clip
from ..data import Images
from ..histogram import Histogram

TAUS = (1, 2, 4)
"""Candidates for tau: levels per factor of two."""

_QUERIES = 512
_PARTS = ("q", "k", "v")


def log_quantize(probabilities: torch.Tensor, bits: int, tau: int) -> torch.Tensor:
    """Return probabilities on the grid ``2^(-c / tau)``, ``c = 0 ... 2^bits - 2``, or zero.

    The last code stands for zero: with thousands of keys, small probabilities that were all raised
    to the smallest level would outweigh everything else.

    Args:
        probabilities: 0 to 1, any shape.
        bits: width of a code.
        tau: levels per factor of two.
    """
    codes = torch.round(-tau * torch.log2(probabilities))
    levels = torch.exp2(-codes / tau)
    return torch.where(codes <= 2**bits - 2, levels, torch.zeros_like(levels))


class QuantizedAttention(nn.Module):
    """Hiera's attention with fake-quantized queries, keys, values and probabilities.

    Attributes:
        tau: levels per factor of two of the probabilities.
        steps: of queries, keys and values.
    """

    def __init__(self, attention: Any, bits: int) -> None:
        """Take the place of ``attention``; it is observed until :meth:`settle`."""
        super().__init__()
        self.attention, self.bits = attention, bits
        self.tau = TAUS[0]
        self.steps: dict[str, torch.Tensor] = {}
        self._histograms = {part: Histogram() for part in _PARTS}
        self._errors = dict.fromkeys(TAUS, 0.0)

    def settle(self) -> None:
        """Choose the steps and tau from what was observed."""
        grid = Grid(self.bits)
        for part, histogram in self._histograms.items():
            step = max(histogram_clip(histogram, grid) / grid.qmax, MIN_SCALE)
            self.steps[part] = torch.tensor(step)
        self.tau = min(TAUS, key=lambda tau: self._errors[tau])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[B, H, W, in]`` to ``[B, H', W', out]``."""
        q, k, v, side = self._heads(x)
        if self.steps:
            q, k, v = (self._quantized(t, part) for t, part in zip((q, k, v), _PARTS, strict=True))
        else:
            for t, part in zip((q, k, v), _PARTS, strict=True):
                self._histograms[part].add(t, float(t.abs().max()))
        # In chunks of queries, so that the scores never fill the memory.
        parts = [self._attend(queries, k, v) for queries in torch.split(q, _QUERIES, dim=2)]
        mixed = torch.cat(parts, dim=2)
        result: torch.Tensor = self.attention.proj(mixed.transpose(1, 2).reshape(len(x), *side, -1))
        return result

    def _heads(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, int]]:
        """Return queries, keys and values ``[B, heads, n, c]``, and the height and width of q."""
        attention, (batch, height, width, _) = self.attention, x.shape
        projected = attention.qkv(x).reshape(batch, height * width, 3, attention.num_heads, -1)
        q, k, v = projected.permute(2, 0, 3, 1, 4)
        if attention.q_pool is None:
            return q, k, v, (height, width)
        maps = q.permute(0, 1, 3, 2).reshape(batch, -1, height, width)
        pooled = attention.q_pool(maps)
        side = (int(pooled.shape[2]), int(pooled.shape[3]))
        q = pooled.reshape(batch, attention.num_heads, -1, math.prod(side)).transpose(2, 3)
        return q, k, v, side

    def _quantized(self, x: torch.Tensor, part: str) -> torch.Tensor:
        return fake_quantize(x, self.steps[part], Grid(self.bits))

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        probabilities = scores.softmax(dim=3)
        if self.steps:
            return log_quantize(probabilities, self.bits, self.tau) @ v
        exact = probabilities @ v
        for tau in TAUS:
            found = log_quantize(probabilities, self.bits, tau) @ v
            self._errors[tau] += float((found - exact).double().square().sum())
        return exact


@contextmanager
@torch.no_grad()
def quantized_attention(
    encoder: Any, images: Images, bits: int
) -> Iterator[Mapping[str, QuantizedAttention]]:
    """Quantize the attention products of the trunk's blocks while the context is open.

    Args:
        encoder: SAM2's image encoder, whose linear layers may be quantized.
        images: calibration images ``[1, 3, S, S]``, for the steps and for tau.
        bits: of queries, keys, values and probabilities, 2 to 8.

    Yields:
        The attentions by the number of their block.
    """
    blocks = list(encoder.trunk.blocks)
    before = [block.attn for block in blocks]
    wrapped = [QuantizedAttention(attention, bits) for attention in before]
    try:
        _put(blocks, wrapped)
        for image in progress(images, "attention", total=len(images), unit="image"):
            encoder(image)
        for attention in wrapped:
            attention.settle()
        yield {str(number): attention for number, attention in enumerate(wrapped)}
    finally:
        _put(blocks, before)


def _put(blocks: Sequence[Any], attentions: Sequence[nn.Module]) -> None:
    for block, attention in zip(blocks, attentions, strict=True):
        block.attn = attention
