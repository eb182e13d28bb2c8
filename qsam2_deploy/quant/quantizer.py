"""What every quantizer has in common, and the registry that finds one by name.

A new method is one file: a subclass of :class:`Quantizer` under ``@register_quantizer("name")``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from ..errors import InputError
from .grid import MIN_SCALE, Grid, fake_quantize


class Quantizer(nn.Module):
    """Fake-quantizes a weight ``[channels, n]`` per row, or an activation of any shape as a whole.

    In training mode every call first observes its input; in evaluation mode, and while
    ``frozen`` is True, the statistics never change.

    Attributes:
        grid: the integer grid.
        channels: rows that have a step each, or None for one step in all.
        frozen: keep the statistics as they are, in training too.
        half_step: round the step to half precision, so that a file can hold it in two bytes and an
            engine in half precision computes with the same one.
        method: name in the registry.
        scales_gradient: multiply the gradient of the step by ``1 / sqrt(N * qmax)`` with N values
            per step, as LSQ does, so that it is of the order of the weights' gradients.
        starts_from_absmax: its warm start is the largest magnitude, not the MSE-optimal clip.
    """

    method = ""
    scales_gradient = False
    starts_from_absmax = False

    def __init__(self, grid: Grid, channels: int | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.channels = channels
        self.frozen = False
        self.half_step = False

    @property
    def scale(self) -> torch.Tensor:
        """The step that :meth:`forward` uses now, float32 ``[channels]`` or ``[]``."""
        return self._rounded_step().detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` on the grid, in its own shape."""
        if self.training and not self.frozen:
            self.observe(x.detach())
        step = self._rounded_step()
        if self.scales_gradient:
            values_per_step = x.numel() / max(step.numel(), 1)
            step = scale_gradient(step, 1.0 / math.sqrt(values_per_step * self.grid.qmax))
        return fake_quantize(x, self._broadcast(step), self.grid)

    @abstractmethod
    def step(self) -> torch.Tensor:
        """Return the step ``[channels]`` or ``[]``, differentiable in what is learned."""

    @abstractmethod
    def observe(self, x: torch.Tensor) -> None:
        """Update the running statistics with ``x``."""

    @abstractmethod
    def warm_start(self, clip: torch.Tensor, std: torch.Tensor, mean: torch.Tensor) -> None:
        """Start from the clip threshold ``clip`` and the statistics of calibration data.

        All three are float tensors ``[channels]`` or ``[]``; afterwards ``scale = clip / qmax``.
        """

    def _rounded_step(self) -> torch.Tensor:
        step = self.step()
        return round_to_half(step) if self.half_step else step

    def _shape(self) -> tuple[int, ...]:
        return () if self.channels is None else (self.channels,)

    def _broadcast(self, step: torch.Tensor) -> torch.Tensor:
        return step if self.channels is None else step[:, None]


def tensor_statistics(x: torch.Tensor, per_row: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the standard deviation and the mean of ``x``: per row of ``[rows, n]``, or of all.

    The deviation is that of a population (divided by n), so that it exists for a single value.
    """
    dims = tuple(range(1, x.ndim)) if per_row else tuple(range(x.ndim))
    std, mean = torch.std_mean(x, dim=dims, correction=0)
    return std, mean


def scale_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``x`` to the bit; its gradient is multiplied by ``factor``."""
    if x.requires_grad:
        x = x.clone()
        x.register_hook(lambda grad: grad * factor)  # type: ignore[no-untyped-call]
    return x


def positive_step(step: torch.Tensor) -> torch.Tensor:
    """Return float32 steps that are at least ``MIN_SCALE``: a dead channel has none of its own."""
    return step.to(torch.float32).clamp_min(MIN_SCALE)


def round_to_half(x: torch.Tensor) -> torch.Tensor:
    """Return float32 ``x`` rounded to half precision; the gradient passes straight through."""
    # The difference to a neighbour in half precision is exact in float32, and so is the sum.
    return x + (x.half().float() - x).detach()


QuantizerType = TypeVar("QuantizerType", bound=type[Quantizer])

_QUANTIZERS: dict[str, type[Quantizer]] = {}


def register_quantizer(name: str) -> Callable[[QuantizerType], QuantizerType]:
    """Make a quantizer class available under ``name``."""

    def register(cls: QuantizerType) -> QuantizerType:
        cls.method = name
        _QUANTIZERS[name] = cls
        return cls

    return register


def quantizer_names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_QUANTIZERS))


def make_quantizer(name: str, bits: int, channels: int | None = None) -> Quantizer:
    """Return a new quantizer of the method ``name``.

    Raises:
        InputError: no method has this name, or ``bits`` is not 2 to 8.
    """
    if name not in _QUANTIZERS:
        raise InputError(
            f"no quantizer is called {name!r}; expected one of {', '.join(quantizer_names())}"
        )
    return _QUANTIZERS[name](Grid(bits), channels)
