"""Other modules in the place of quantizers, for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from ...quant.layers.modules import QuantLayer

PARTS = ("weight_quantizer", "input_quantizer")


@contextmanager
def replaced(modules: Mapping[QuantLayer, Mapping[str, nn.Module]]) -> Iterator[None]:
    """Put other modules in the place of quantizers; afterwards the quantizers are back.

    Args:
        modules: for each layer what replaces its ``weight_quantizer`` and ``input_quantizer``, or
            one of them.
    """
    before = [(layer, part, getattr(layer, part)) for layer, new in modules.items() for part in new]
    try:
        for layer, new in modules.items():
            for part, module in new.items():
                setattr(layer, part, module)
        yield
    finally:
        for layer, part, module in before:
            setattr(layer, part, module)


@contextmanager
def bypassed(layers: Iterable[QuantLayer]) -> Iterator[None]:
    """Let ``layers`` compute in float, from their weights as they are."""
    with replaced({layer: {part: nn.Identity() for part in PARTS} for layer in layers}):
        yield
