"""The attention layers of the ``sam2`` package with their products quantized.

Only this file imports upstream's classes, so that everything else loads without ``sam2``.
"""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.backbones.hieradet import MultiScaleAttention
from sam2.modeling.sam.transformer import RoPEAttention

from .attention_layer import QuantAttention


class QuantMultiScaleAttention(QuantAttention, MultiScaleAttention):  # type: ignore[misc]
    """Attention of the image encoder's trunk."""

    projections = ("qkv",)


class QuantSelfAttention(QuantAttention, RoPEAttention):  # type: ignore[misc]
    """Self-attention of the memory attention."""

    projections = ("q_proj", "k_proj", "v_proj")


class QuantCrossAttention(QuantAttention, RoPEAttention):  # type: ignore[misc]
    """Attention to the memories, whose values are on their grid before their projection.

    The exported graph projects them after the attention, which averages; an average of projected
    values is the projection of their average.
    """

    projections = ("q_proj", "k_proj", "v_proj")
    values_first = True

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **other: Any) -> Any:
        """Attend from ``q [B, n, C]`` to ``k`` and ``v [B, m, M]``."""
        return super().forward(q, k, self.product.v(v) if self.product.enabled else v, **other)
