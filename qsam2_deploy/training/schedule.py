"""Learning rates and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .config import Stage

_EMA_WARMUP = 20


def learning_rate(stage: Stage, step: int, warmup_steps: int) -> float:
    """Return the rate of ``step``: a linear warm-up times a cosine from start to end."""
    first, last = stage.learning_rate
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return min(1.0, (step + 1) / max(1, warmup_steps)) * (last + (first - last) * cosine)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups for AdamW: decay on matrices and kernels, none on vectors and scalars."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move ``average`` towards ``model``: a <- d a + (1 - d) w, d = min(decay, (s+1) / (s+20)).

    The smaller decay of the first steps forgets the random start.
    """
    decay = min(decay, (step + 1) / (step + _EMA_WARMUP))
    old: list[torch.Tensor] = list(average.parameters())
    new: list[torch.Tensor] = list(model.parameters())
    torch._foreach_lerp_(old, new, 1 - decay)
    for target, source in zip(average.buffers(), model.buffers(), strict=True):
        target.copy_(source)
