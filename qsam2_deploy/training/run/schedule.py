"""Learning rates and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ...quant.quantizers.quantizer import Quantizer
from ..config import Stage

_EMA_WARMUP = 20


def learning_rate(stage: Stage, step: int, warmup_steps: int) -> float:
    """Return the rate of ``step``: a linear warm-up times a cosine from start to end."""
    first, last = stage.learning_rate
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return min(1.0, (step + 1) / max(1, warmup_steps)) * (last + (first - last) * cosine)


def parameter_groups(
    model: nn.Module, weight_decay: float, quantizer_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Return the groups for AdamW: decay on matrices and kernels, none on vectors and scalars.

    What quantizers learn is a third group, if there is any: without decay, which would pull clips
    towards zero, and at ``quantizer_rate`` times the learning rate (the key ``rate`` of the group).
    """
    quantizers = _of_quantizers(model, "parameters")
    own = {id(parameter) for parameter in quantizers}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if quantizers:
        groups.append({"params": quantizers, "weight_decay": 0.0, "rate": quantizer_rate})
    return groups


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all groups of `parameter_groups`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate", 1.0)


def _of_quantizers(model: nn.Module, what: str) -> list[Any]:
    """Return the ``parameters`` or ``buffers`` of all quantizers of ``model``."""
    found = (module for module in model.modules() if isinstance(module, Quantizer))
    return [tensor for quantizer in found for tensor in getattr(quantizer, what)()]


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move ``average`` towards ``model``: a <- d a + (1 - d) w, d = min(decay, (s+1) / (s+20)).

    The smaller decay of the first steps forgets the random start. Buffers are copied, but for the
    statistics of quantizers, which are averaged like everything that is learned: the average's
    steps then fit the averaged weights, as both come from the same steps of the training.
    """
    decay = min(decay, (step + 1) / (step + _EMA_WARMUP))
    old: list[torch.Tensor] = list(average.parameters())
    new: list[torch.Tensor] = list(model.parameters())
    torch._foreach_lerp_(old, new, 1 - decay)
    statistics = {id(buffer) for buffer in _of_quantizers(average, "buffers")}
    for target, source in zip(average.buffers(), model.buffers(), strict=True):
        if id(target) in statistics and target.is_floating_point():
            target.lerp_(source, 1 - decay)
        else:
            target.copy_(source)
