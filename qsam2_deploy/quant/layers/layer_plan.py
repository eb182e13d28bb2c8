"""What is planned for one layer: a quantizer for its weight, and one for its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..._common.contradictions import shown
from ...errors import InputError
from ..quantizers.grid import AFFINE, MAX_MIDRISE_BITS, MIDRISE, SYMMETRIC, Grid
from ..quantizers.quantizer import Quantizer, make_quantizer, quantizer_class

PER_CHANNEL = "channel"
PER_TENSOR = "tensor"
GRANULARITIES = (PER_CHANNEL, PER_TENSOR)

WEIGHT_GRIDS = (SYMMETRIC, MIDRISE)
INPUT_GRIDS = (SYMMETRIC, AFFINE)
"""Zero, which pads convolutions, is on the grids of inputs; engines multiply with those of weights
without a zero-point."""


@dataclass(frozen=True)
class QuantizerPlan:
    """One quantizer of a layer.

    Attributes:
        method: name in the registry.
        grid: its grid of codes.
        options: arguments of its constructor.
    """

    method: str
    grid: Grid
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def make(self, channels: int | None = None) -> Quantizer:
        """Return a new quantizer, without statistics.

        Raises:
            InputError: the method has no such grid or option.
        """
        return make_quantizer(
            self.method, self.grid.bits, channels, grid=self.grid.kind, **self.options
        )


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized.

    Attributes:
        weight_bits: width of the weight codes, 2 to 8.
        input_bits: width of the input codes, 2 to 8.
        method: name of the quantizer. Without an ``input_method`` it stands for both, as in the
            method's paper: ``pact`` has SAWB for weights, ``statsq`` LSQ for inputs.
        half_steps: round all steps to half precision.
        input_method: name of the quantizer of the input, if ``method`` is that of the weight alone.
        weight_grid: ``symmetric`` or ``midrise``; None: the method's own. Where codes are too wide
            for a mid-rise grid (8 bits), the grid is symmetric.
        input_grid: ``symmetric`` or ``affine``; None: the method's own.
        granularity: ``channel`` or ``tensor``: what has a step of its own in a weight.
        weight_options: constructor arguments of the weight's quantizer.
        input_options: constructor arguments of the input's quantizer.
    """

    weight_bits: int
    input_bits: int
    method: str = "lsc"
    half_steps: bool = False
    input_method: str | None = None
    weight_grid: str | None = None
    input_grid: str | None = None
    granularity: str = PER_CHANNEL
    weight_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    input_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            InputError: a choice is not among the ones above; methods are looked up when used.
        """
        check_choice("grid of weights", self.weight_grid, (None, *WEIGHT_GRIDS))
        check_choice("grid of activations", self.input_grid, (None, *INPUT_GRIDS))
        check_choice("granularity", self.granularity, GRANULARITIES)

    @property
    def weight(self) -> QuantizerPlan:
        """The quantizer of the weight."""
        method = self.method
        if self.input_method is None:
            method = quantizer_class(method).for_weights or method
        kind = self.weight_grid or quantizer_class(method).weight_grid
        if kind == MIDRISE and self.weight_bits > MAX_MIDRISE_BITS:
            kind = SYMMETRIC
        return QuantizerPlan(method, Grid(self.weight_bits, kind), self.weight_options)

    @property
    def inputs(self) -> QuantizerPlan:
        """The quantizer of the input."""
        method = self.input_method
        if method is None:
            method = quantizer_class(self.method).for_inputs or self.method
        kind = self.input_grid or quantizer_class(method).input_grid
        return QuantizerPlan(method, Grid(self.input_bits, kind), self.input_options)


def check_choice(what: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Refuse a value that is not among ``choices``.

    Raises:
        InputError: it is not; names all of them.
    """
    if value not in choices:
        names = ", ".join(choice for choice in choices if choice is not None)
        raise InputError(f"the {what} must be one of {names}, but got {shown(value)}")
