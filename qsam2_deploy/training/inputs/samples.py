"""Samples of what layers and attention products see in a training step, for their statistics.

Statistics are not updated where a layer runs, as they are outside of training, but once at the end
of a step, from samples: so all calls of a step use the same steps, a recomputation in the backward
pass gives the same numbers and is not counted again, and all processes can put their samples
together first. Sampling costs little: whole statistics would read every activation once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...quant.quantizers.quantizer import Quantizer

_VALUES = 4096
"""Values to take of each image or object, about."""

_LEAST_ROWS = 16
_ENCODER = "image_encoder."


class InputSamples:
    """Collects samples of what quantizers of activations see inside :meth:`recorded`."""

    def __init__(self, inputs: Mapping[str, Quantizer]) -> None:
        """Watch the quantizers of ``inputs``, by the names of their layers in the model."""
        self._inputs = dict(inputs)
        self._found: dict[str, list[torch.Tensor]] = {}
        self._images: int | None = None
        for name, quantizer in self._inputs.items():
            quantizer.register_forward_pre_hook(self._hook(name))

    @contextmanager
    def recorded(self, image_count: int) -> Iterator[None]:
        """Collect anew, from a batch of so many images."""
        self._found, self._images = {}, image_count
        try:
            yield
        finally:
            self._images = None

    def take(self) -> dict[str, torch.Tensor]:
        """Return the samples by name, float32 [n], and forget them; all inputs are there."""
        taken = {
            name: torch.cat(self._found[name])
            if name in self._found
            else torch.empty(0, device=quantizer.scale.device)
            for name, quantizer in self._inputs.items()
        }
        self._found = {}
        return taken

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(quantizer: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._images is None:
                return
            assert isinstance(quantizer, Quantizer)
            x = inputs[0].detach()
            groups = self._images if name.startswith(_ENCODER) else len(x)
            self._found.setdefault(name, []).append(sample(x, groups, quantizer))

        return record


def sample(x: torch.Tensor, groups: int, quantizer: Quantizer) -> torch.Tensor:
    """Return some values of ``x``, and its extremes where these count: float32 [n].

    Rows along the last dimension are taken whole, evenly spread over each group. What is taken of
    a group does not depend on how many groups there are, so processes that share a batch take what
    one process with all of it would.

    Args:
        x: [n, ...]; the groups, images or objects, are consecutive.
        groups: their number.
        quantizer: what the sample is for.
    """
    if x.ndim < 2 or len(x) % groups:
        groups = 1
    rows = x.reshape(groups, -1, x.shape[-1])
    stride = rows.shape[1] // max(_LEAST_ROWS, _VALUES // x.shape[-1])
    stride = max(1, stride)
    # Rows of a map lie behind one another: every one must get its turn.
    while x.ndim > 2 and stride > 1 and math.gcd(stride, x.shape[-2]) > 1:
        stride += 1
    taken = rows[:, ::stride].flatten().float()
    if not quantizer.needs_extremes:
        return taken
    return torch.cat([taken, torch.stack(torch.aminmax(x)).float()])
