"""Clipping the gradients of a model to a common norm, and finding those that are not finite."""

from __future__ import annotations

import torch
from torch import nn

_EPSILON = 1e-6


@torch.no_grad()
def clip_gradients(model: nn.Module, most: float) -> list[str]:
    """Scale the gradients of ``model``, in place, so that their common norm is at most ``most``.

    The numbers are those of ``torch.nn.utils.clip_grad_norm_``, which does not say where a norm
    that is not finite comes from.

    Args:
        model: after a backward pass.
        most: largest L2 norm of all gradients together.

    Returns:
        The names of the parameters whose gradients have no finite norm, in the model's order. If
        there are any, all gradients stay as they are.
    """
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    grads = [grad for _, grad in named]
    if not grads:
        return []
    norms = torch.stack(torch._foreach_norm(grads))
    total = torch.linalg.vector_norm(norms)
    if bool(total.isfinite()):
        torch._foreach_mul_(grads, (most / (total + _EPSILON)).clamp(max=1.0))
        return []
    finite = norms.isfinite().tolist()
    bad = [name for (name, _), is_finite in zip(named, finite, strict=True) if not is_finite]
    return bad or [named[int(norms.argmax())][0]]  # each is finite, but not their sum
