"""The grids of codes and their arithmetic, as free functions on tensors.

A value on a grid is a *level* times a step. Levels are integers, or half-integers on a mid-rise
grid; a *code* is the integer that is stored for a level:

============= =============== ============================== =======================
kind          level of code q codes                          used for
============= =============== ============================== =======================
``symmetric`` ``q``           ``-2**(b-1) ... 2**(b-1) - 1`` weights and activations
``affine``    ``q - z``       the same                       activations
``midrise``   ``q + 1/2``     the same                       weights
============= =============== ============================== =======================

The zero-point ``z`` is one of the codes, so that zero, which pads convolutions, is on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..._common.contradictions import shown
from ...errors import InputError
from ...spec import AFFINE, MIDRISE, SYMMETRIC

__all__ = [
    "AFFINE",
    "GRIDS",
    "MAX_BITS",
    "MAX_MIDRISE_BITS",
    "MIDRISE",
    "MIN_BITS",
    "MIN_SCALE",
    "SYMMETRIC",
    "Grid",
    "dequantize",
    "fake_quantize",
    "quantize",
]

MIN_BITS = 2
MAX_BITS = 8
MIN_SCALE = 2.0**-24
"""Smallest step: the smallest positive half-precision number, so that every engine can hold it."""

GRIDS = (SYMMETRIC, AFFINE, MIDRISE)

MAX_MIDRISE_BITS = 7
"""Engines multiply a mid-rise level ``q + 1/2`` as the INT8 code ``2q + 1``, which must fit."""

_MANY_VALUES = 1 << 16
"""So many rounding errors are kept in half precision, whose own errors average out in their sum."""


@dataclass(frozen=True)
class Grid:
    """The codes ``-2**(bits-1) ... 2**(bits-1) - 1`` and the levels that they stand for.

    Attributes:
        bits: width of a code, 2 to 8; at most 7 on a mid-rise grid.
        kind: ``symmetric``, ``affine`` or ``midrise``.
    """

    bits: int
    kind: str = SYMMETRIC

    def __post_init__(self) -> None:
        """Check the width and the kind."""
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise InputError(
                f"a quantizer must have {MIN_BITS} to {MAX_BITS} bits, but got {self.bits}"
            )
        if self.kind not in GRIDS:
            raise InputError(
                f"a grid must be one of {', '.join(GRIDS)}, but got {shown(self.kind)}"
            )
        if self.kind == MIDRISE and self.bits > MAX_MIDRISE_BITS:
            raise InputError(
                f"a midrise grid must have at most {MAX_MIDRISE_BITS} bits, but got {self.bits}; "
                "use the symmetric one"
            )

    @property
    def qmin(self) -> int:
        """Lowest code."""
        return -(1 << (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Highest code."""
        return (1 << (self.bits - 1)) - 1

    @property
    def centre(self) -> float:
        """What a level is above its code, without a zero-point: 1/2 on a mid-rise grid, else 0."""
        return 0.5 if self.kind == MIDRISE else 0.0

    @property
    def clip_steps(self) -> float:
        """Steps in a clip threshold, the ``Q`` of the formulas.

        It is the highest level; on an affine grid, where thresholds are a range, the number of
        steps in that range, ``2**bits - 1``.
        """
        return float(self.qmax - self.qmin) if self.kind == AFFINE else self.qmax + self.centre

    def of_at_least(self, bits: int) -> Grid:
        """Return the grid of the same kind with at least ``bits`` bits, where there is one.

        A mid-rise grid has never more than :data:`MAX_MIDRISE_BITS`.
        """
        most = MAX_MIDRISE_BITS if self.kind == MIDRISE else MAX_BITS
        return replace(self, bits=max(self.bits, min(bits, most)))

    def codes(self, levels: torch.Tensor, zero_point: torch.Tensor | None = None) -> torch.Tensor:
        """Return the codes of ``levels`` (see :func:`quantize`), in their type and shape."""
        codes = levels - self.centre
        return codes if zero_point is None else codes + zero_point

    def limits(
        self, zero_point: torch.Tensor | None = None
    ) -> tuple[float | torch.Tensor, float | torch.Tensor]:
        """Return the lowest and the highest level."""
        low, high = self.qmin + self.centre, self.qmax + self.centre
        return (low, high) if zero_point is None else (low - zero_point, high - zero_point)

    def nearest(self, v: torch.Tensor) -> torch.Tensor:
        """Return the level nearest to ``v``, without limits.

        Halves round to even; on a mid-rise grid, integers round up.
        """
        return torch.floor(v).add_(0.5) if self.kind == MIDRISE else torch.round(v)


def quantize(
    x: torch.Tensor, scale: torch.Tensor, grid: Grid, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the levels ``clamp(nearest(x / scale), lowest, highest)``.

    Args:
        x: values, float32 of any shape.
        scale: positive steps, broadcastable to ``x``.
        grid: the codes.
        zero_point: code of zero, integers broadcastable to ``x``; affine grids only.

    Returns:
        Levels in the type and shape of ``x``; :meth:`Grid.codes` makes codes of them, which on
        symmetric and affine grids are ONNX ``QuantizeLinear`` to the bit.
    """
    return grid.nearest(x / scale).clamp_(*grid.limits(zero_point))  # type: ignore[arg-type]


def dequantize(levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return ``levels * scale``: ONNX ``DequantizeLinear`` to the bit."""
    return levels * scale


def fake_quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    grid: Grid,
    zero_point: torch.Tensor | None = None,
    *,
    rounding_gradient: bool = True,
) -> torch.Tensor:
    """Return ``dequantize(quantize(x))`` with straight-through gradients.

    With ``v = x / scale`` and the lowest and highest level: the gradient of ``x`` is 1 where ``v``
    lies between them and 0 elsewhere; that of ``scale`` is ``nearest(v) - v`` inside and the level
    outside (Esser et al., Learned Step Size Quantization, 2019, eq. 3); that of ``zero_point`` is
    0 inside and ``-scale`` outside, from which follows that of an offset (Bhalgat et al., LSQ+,
    2020, eq. 5). Both are summed over the values that share a step.

    Args:
        x: values, float32 of any shape.
        scale: positive steps, broadcastable to ``x``.
        grid: the codes.
        zero_point: code of zero, integers in float32, broadcastable to ``x``.
        rounding_gradient: with False the gradient of ``scale`` is 0 inside, where only the
            rounding depends on it (Choi et al., PACT, 2018, eq. 3).

    Values in half precision or bfloat16, as autocast gives them, are quantized in float32; the
    result has their dtype.
    """
    tensors = [x, scale] if zero_point is None else [x, scale, zero_point]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        result: torch.Tensor = _FakeQuantize.apply(  # type: ignore[no-untyped-call]
            x, scale, zero_point, grid, rounding_gradient
        )
        return result
    return dequantize(quantize(_precise(x), scale, grid, zero_point), scale).to(x.dtype)


def straight_through(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``values`` to the bit, with the gradient of ``x``, which is of their shape."""
    result: torch.Tensor = _StraightThrough.apply(x, values)  # type: ignore[no-untyped-call]
    return result


class _StraightThrough(torch.autograd.Function):
    """``x + (values - x).detach()`` without its rounding."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ARG004
        return grads[0], None


def _precise(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _FakeQuantize(torch.autograd.Function):
    """Fake quantization that keeps two bytes per value of a large tensor for the backward pass.

    That is what the gradient of ``scale`` multiplies, with ``v = x / scale``: the rounding error
    or, where ``v`` is clipped, its level. On grids around zero the outermost levels are further
    from it than any rounding error, which tells the two apart. ``x`` itself would often be kept by
    nobody else: what follows it, the product with the weight, keeps the quantized values.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor | None,
        grid: Grid,
        rounding_gradient: bool,
    ) -> torch.Tensor:
        v = _precise(x) / scale
        low, high = grid.limits(zero_point)
        levels = grid.nearest(v).clamp_(low, high)  # type: ignore[arg-type]
        outside = v.clamp(low, high) != v  # type: ignore[arg-type]
        if rounding_gradient:
            factors = torch.sub(levels, v.masked_fill_(outside, 0), out=v)
        else:
            factors = levels * outside
        kept = factors.half() if factors.numel() > _MANY_VALUES else factors
        # The outermost level of an affine grid may be zero.
        ctx.save_for_backward(kept, scale, outside if grid.kind == AFFINE else None)
        ctx.zero_shape = None if zero_point is None else zero_point.shape
        return dequantize(levels, scale).to(x.dtype)

    @staticmethod
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None, None]:
        (grad,) = grads
        kept, scale, outside = ctx.saved_tensors
        factors = kept.to(scale.dtype)
        d_x = d_scale = d_zero = None
        if ctx.needs_input_grad[1]:
            d_scale = _product_sum(grad.to(scale.dtype), factors, scale.shape)
        if outside is None:
            # A copy in full precision is ours, a kept tensor is not.
            outside = (factors.abs_() if factors is not kept else factors.abs()) > _LARGEST_ERROR
        if ctx.zero_shape is not None and ctx.needs_input_grad[2]:
            d_zero = (grad * -scale * outside).sum_to_size(ctx.zero_shape)
        if ctx.needs_input_grad[0]:
            d_x = grad.masked_fill(outside, 0)
        return d_x, d_scale, d_zero, None, None


_LARGEST_ERROR = 0.5
"""Of rounding, in steps."""


def _product_sum(a: torch.Tensor, b: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return ``(a * b).sum_to_size(shape)``; for one number without forming the products."""
    if shape.numel() == 1:
        return torch.dot(a.flatten(), b.flatten()).reshape(shape)
    return (a * b).sum_to_size(shape)
