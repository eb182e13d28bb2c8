"""What every quantizer has in common, and the registry that finds one by name.

A new method is one file: a subclass of :class:`Quantizer` under ``@register_quantizer("name")``.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from ..._common.contradictions import shown
from ...errors import InputError
from .grid import AFFINE, MIDRISE, MIN_SCALE, SYMMETRIC, Grid, fake_quantize
from .value_statistics import ValueStatistics

Range = tuple[torch.Tensor, torch.Tensor]
"""Lower and upper clip threshold, float tensors ``[channels]`` or ``[]``."""


class Quantizer(nn.Module):
    """Fake-quantizes a weight ``[channels, n]`` per row, or an activation of any shape as a whole.

    In training mode every call first observes its input; in evaluation mode, and while
    ``frozen`` is True, the statistics never change. What is learned is an ``nn.Parameter``, what
    is observed a buffer.

    Attributes:
        grid: the grid of codes.
        channels: rows that have a step each, or None for one step in all.
        frozen: keep the statistics as they are, in training too.
        half_step: round the step to half precision, so that a file can hold it in two bytes and an
            engine in half precision computes with the same one.
        method: name in the registry.
        grids: kinds of grids that it can have.
        weight_grid: kind of the grid of weights, if nothing else is asked for.
        input_grid: kind of the grid of inputs likewise.
        for_weights: the method that its paper uses for weights, if that is another one.
        for_inputs: the method that its paper uses for activations likewise.
        recomputes_weights: the statistics of a weight are those of its present values alone.
        option_names: arguments of its constructor that can be chosen, kept as attributes.
        batch_share: this process's share of the values of a call, above 0 and up to 1; less than
            1 where several processes share a batch and average their gradients.
        scales_gradient: multiply the gradients of step and zero-point by ``1 / sqrt(N * Q)`` with N
            values per step, those of other processes included, and ``Q = grid.clip_steps``, as LSQ
            does, so that they are of the order of the weights' gradients.
        rounding_gradient: the step learns from rounding errors inside the clip, too.
    """

    method: ClassVar[str] = ""
    grids: ClassVar[tuple[str, ...]] = (SYMMETRIC, AFFINE, MIDRISE)
    weight_grid: ClassVar[str] = SYMMETRIC
    input_grid: ClassVar[str] = SYMMETRIC
    for_weights: ClassVar[str | None] = None
    for_inputs: ClassVar[str | None] = None
    recomputes_weights: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()
    scales_gradient: ClassVar[bool] = False
    rounding_gradient: ClassVar[bool] = True

    def __init__(self, grid: Grid, channels: int | None = None) -> None:
        super().__init__()
        if grid.kind not in self.grids:
            raise InputError(
                f"the quantizer {self.method} has no {grid.kind} grid; expected "
                f"{' or '.join(self.grids)}"
            )
        self.grid = grid
        self.channels = channels
        self.frozen = False
        self.half_step = False
        self.batch_share = 1.0

    @property
    def scale(self) -> torch.Tensor:
        """The step that :meth:`forward` uses now, float32 ``[channels]`` or ``[]``."""
        return self._rounded_step().detach()

    @property
    def zero_point(self) -> torch.Tensor | None:
        """The code of zero that :meth:`forward` uses now, or None where the grid is not affine.

        Integers in float32, ``[channels]`` or ``[]``.
        """
        offset = self.offset(self._rounded_step())
        return None if offset is None else offset.detach()

    @property
    def is_affine(self) -> bool:
        """Whether there is a zero-point."""
        return self.grid.kind == AFFINE

    @property
    def needs_extremes(self) -> bool:
        """Whether :meth:`observe` wants the smallest and the largest value, not only a sample."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The chosen ``option_names``, by name."""
        return {name: getattr(self, name) for name in self.option_names}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` on the grid, in its own shape."""
        if self.training and not self.frozen:
            self.observe(x.detach())
        step = self._rounded_step()
        offset = self.offset(step)
        if self.scales_gradient:
            values_per_step = x.numel() / self.batch_share / max(step.numel(), 1)
            factor = 1.0 / math.sqrt(max(values_per_step, 1.0) * self.grid.clip_steps)
            step = scale_gradient(step, factor)
            offset = None if offset is None else scale_gradient(offset, factor)
        return fake_quantize(
            x,
            self._broadcast(step),
            self.grid,
            None if offset is None else self._broadcast(offset),
            rounding_gradient=self.rounding_gradient,
        )

    @abstractmethod
    def step(self) -> torch.Tensor:
        """Return the step ``[channels]`` or ``[]``, differentiable in what is learned."""

    def offset(self, step: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG002
        """Return the zero-point that belongs to ``step``, or None where the grid is not affine.

        Integers in float32 of the shape of ``step``, with straight-through gradients in what is
        learned. A method that offers affine grids overrides it.
        """
        return None

    @abstractmethod
    def observe(self, x: torch.Tensor) -> None:
        """Update the running statistics with ``x``."""

    @abstractmethod
    def warm_start(
        self,
        clip: torch.Tensor,
        std: torch.Tensor,
        mean: torch.Tensor,
        low: torch.Tensor | None = None,
    ) -> None:
        """Start from the clip threshold ``clip`` and the statistics of calibration data.

        All are float tensors ``[channels]`` or ``[]``. Afterwards ``scale = clip /
        grid.clip_steps``; on an affine grid ``scale = (clip - low) / grid.clip_steps``, where
        ``low`` is the lower threshold, ``-clip`` if it is None.
        """

    def start_range(self, values: ValueStatistics) -> Range | None:  # noqa: ARG002
        """Return the thresholds that the method starts from; None for those of least MSE."""
        return None

    def collapsed(self) -> torch.Tensor:
        """Return where the step is the smallest that there is, bool ``[channels]`` or ``[]``.

        Channels of zeros are so from the start; any other has lost its values in training, and has
        no way back.
        """
        return self.scale <= MIN_SCALE

    def penalty(self) -> torch.Tensor | None:
        """Return what the method's paper adds to the loss, unweighted, ``[]``; None if nothing."""
        return None

    def _rounded_step(self) -> torch.Tensor:
        step = self.step()
        return round_to_half(step) if self.half_step else step

    def _shape(self) -> tuple[int, ...]:
        return () if self.channels is None else (self.channels,)

    def _broadcast(self, step: torch.Tensor) -> torch.Tensor:
        return step if self.channels is None else step[:, None]

    def _statistics(self, x: torch.Tensor) -> ValueStatistics:
        return ValueStatistics.of(x, per_row=self.channels is not None)


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


def checked_momentum(momentum: float) -> float:
    """Return the share that running statistics keep at each observation.

    Raises:
        InputError: it is not 0 or more and below 1.
    """
    if not (isinstance(momentum, (int, float)) and 0.0 <= momentum < 1.0):
        raise InputError(f"the momentum must be 0 or more and below 1, but got {momentum}")
    return float(momentum)


def checked_flag(name: str, value: bool) -> bool:
    """Return an option that is on or off.

    Raises:
        InputError: it is neither.
    """
    if value not in (False, True):
        raise InputError(f"{name} must be true or false, but got {value}")
    return bool(value)


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
    return tuple(sorted(_registered()))


def _registered() -> dict[str, type[Quantizer]]:
    """Return the quantizers of all files of this folder, which register themselves."""
    _import_neighbours()
    return _QUANTIZERS


@functools.cache
def _import_neighbours() -> None:
    for found in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{found.name}")


def quantizer_class(name: str) -> type[Quantizer]:
    """Return the class of the method ``name``.

    Raises:
        InputError: no method has this name.
    """
    if name not in _registered():
        raise InputError(
            f"no quantizer is called {shown(name)}; expected one of {', '.join(quantizer_names())}"
        )
    return _QUANTIZERS[name]


def make_quantizer(
    name: str, bits: int, channels: int | None = None, *, grid: str = SYMMETRIC, **options: Any
) -> Quantizer:
    """Return a new quantizer of the method ``name``.

    Args:
        name: in the registry.
        bits: width of a code, 2 to 8.
        channels: rows that have a step each; None for an activation.
        grid: kind of its grid.
        options: some of the method's ``option_names``.

    Raises:
        InputError: no method has this name, grid or option, or ``bits`` is not 2 to 8.
    """
    cls = quantizer_class(name)
    for option in options:
        if option not in cls.option_names:
            known = ", ".join(cls.option_names) or "none"
            raise InputError(
                f"the quantizer {name} has no option {shown(option)}; its options are: {known}"
            )
    return cls(Grid(bits, grid), channels, **options)
