"""The integer grid and its arithmetic, as free functions on tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError

MIN_BITS = 2
MAX_BITS = 8
MIN_SCALE = 2.0**-24
"""Smallest step: the smallest positive half-precision number, so that every engine can hold it."""

_CLIPPED = 512.0
"""Added to the level of a clipped value, which sets it apart from rounding errors (at most 1/2).

Half precision holds this plus any level, and plus half a level, without an error.
"""

_MANY_VALUES = 1 << 16
"""So many rounding errors are kept in half precision, whose own errors average out in their sum."""


@dataclass(frozen=True)
class Grid:
    """Symmetric signed integers: levels ``-2**(bits-1) ... 2**(bits-1) - 1``, times a step.

    Attributes:
        bits: width of a code, 2 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        """Check the width."""
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise InputError(
                f"a quantizer must have {MIN_BITS} to {MAX_BITS} bits, but got {self.bits}"
            )

    @property
    def qmin(self) -> int:
        """Lowest code."""
        return -(1 << (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Highest code, the ``Q`` of the formulas."""
        return (1 << (self.bits - 1)) - 1


def quantize(x: torch.Tensor, scale: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the codes ``clamp(round(x / scale), qmin, qmax)``; halves round to even.

    Args:
        x: values, float32 of any shape.
        scale: positive steps, broadcastable to ``x``.
        grid: the code range.

    Returns:
        Integers in the type and shape of ``x``. This is ONNX ``QuantizeLinear`` to the bit.
    """
    return torch.round(x / scale).clamp_(grid.qmin, grid.qmax)


def dequantize(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return ``codes * scale``: ONNX ``DequantizeLinear`` to the bit."""
    return codes * scale


def fake_quantize(x: torch.Tensor, scale: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return ``dequantize(quantize(x))`` with straight-through gradients.

    With ``v = x / scale``: the gradient of ``x`` is 1 where ``qmin <= v <= qmax`` and 0 elsewhere;
    that of ``scale`` is ``round(v) - v`` inside and the level ``qmin`` or ``qmax`` outside, summed
    over the values that share a step (Esser et al., Learned Step Size Quantization, 2019).

    Values in half precision or bfloat16, as autocast gives them, are quantized in float32; the
    result has their dtype.
    """
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        result: torch.Tensor = _FakeQuantize.apply(x, scale, grid)  # type: ignore[no-untyped-call]
        return result
    return dequantize(quantize(_precise(x), scale, grid), scale).to(x.dtype)


def _precise(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _FakeQuantize(torch.autograd.Function):
    """Fake quantization that keeps two bytes per value of a large tensor for the backward pass.

    That is what the gradients need of ``v = x / scale``: its rounding error or, where it is
    clipped, its level. ``x`` itself would often be kept by nobody else: what follows it, the
    product with the weight, keeps the quantized values.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, grid: Grid) -> torch.Tensor:
        v = _precise(x) / scale
        codes = torch.round(v).clamp_(grid.qmin, grid.qmax)
        outside = (v < grid.qmin) | (v > grid.qmax)
        errors = torch.where(outside, codes + _CLIPPED, codes - v)
        ctx.save_for_backward(errors.half() if errors.numel() > _MANY_VALUES else errors)
        ctx.scale_shape, ctx.scale_dtype = scale.shape, scale.dtype
        return dequantize(codes, scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (grad,) = grads
        (errors,) = ctx.saved_tensors
        inside = errors < _CLIPPED / 4
        d_scale = errors.to(ctx.scale_dtype)
        d_scale = grad * torch.where(inside, d_scale, d_scale - _CLIPPED)
        return grad * inside, d_scale.sum_to_size(ctx.scale_shape), None
