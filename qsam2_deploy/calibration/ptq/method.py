"""What every post-training method has in common, and the registry that finds one by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from ...errors import InputError
from ...quant.layers.modules import QuantLayer
from ...quant.quantizers.grid import Grid
from ..clip import histogram_range, weight_clip
from ..data import Images
from ..statistics import LayerStatistics
from .options import PtqOptions


@dataclass(frozen=True)
class PtqJob:
    """A quantized model whose weights and steps a method may improve.

    Attributes:
        model: SAM2 model with quantized layers, started from the method's own clips.
        layers: these layers by name, in the order in which they run.
        statistics: of the inputs of each layer, in the float model.
        images: calibration images ``[1, 3, S, S]``.
        start: called before each pass of the images; returns what runs every layer of ``layers``
            on one image.
        memory_budget: bytes for Gram matrices or for the inputs of a block.
        most_tokens: rows that enter a Gram matrix each time a layer runs; None for all.
    """

    model: Any
    layers: Mapping[str, QuantLayer]
    statistics: Mapping[str, LayerStatistics]
    images: Images
    start: Callable[[], Callable[[torch.Tensor], Any]]
    memory_budget: int
    most_tokens: int | None = None


class PtqMethod:
    """A way to find steps and codes from calibration data; this one takes clips of least error.

    A subclass replaces any of the four methods, which are called in this order.

    Attributes:
        name: in the registry.
        options: the settings.
        notes: what it found out, for the report; plain values.
    """

    name = ""

    def __init__(self, options: PtqOptions) -> None:
        self.options = options
        self.notes: dict[str, Any] = {}

    def prepare(
        self, model: nn.Module, images: Images, start: Callable[[], Callable[[torch.Tensor], Any]]
    ) -> None:
        """Change the float ``model`` in place without changing its function; default: nothing."""

    def weight_clip(self, rows: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return the clip of every row of a weight ``[out, n]``, float32 ``[out]``.

        It is the highest level of the grid, which is symmetric or mid-rise.
        """
        return weight_clip(rows, grid)

    def input_range(self, statistics: LayerStatistics, grid: Grid) -> tuple[float, float]:
        """Return the lower and the upper threshold of a layer's inputs.

        On an affine grid they are its ends, elsewhere the clip with both signs.
        """
        return histogram_range(statistics.histogram, grid)

    def refine(self, job: PtqJob) -> None:
        """Improve the quantized layers in place; default: nothing.

        Whatever it learns ends up in the weights and in the quantizers' own states, so that the
        ordinary quantization entry holds it.
        """


MethodType = TypeVar("MethodType", bound=type[PtqMethod])

_METHODS: dict[str, type[PtqMethod]] = {}


def register_ptq(name: str) -> Callable[[MethodType], MethodType]:
    """Make a method available under ``name``."""

    def register(cls: MethodType) -> MethodType:
        cls.name = name
        _METHODS[name] = cls
        return cls

    return register


def ptq_names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_METHODS))


def make_ptq(name: str, options: PtqOptions | None = None) -> PtqMethod:
    """Return a method by its name.

    Raises:
        InputError: no method has this name.
    """
    if name not in _METHODS:
        raise InputError(
            f"no PTQ method is called {name!r}; expected one of {', '.join(ptq_names())}"
        )
    return _METHODS[name](options or PtqOptions())
