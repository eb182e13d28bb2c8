"""The numbers of one linear layer, on their way into the graph."""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from ..quant.layers.modules import QuantizedWeights, QuantLayer
from ..quant.quantizers.grid import MIN_SCALE
from .arrays import Array, array

Pointwise: TypeAlias = "nn.Linear | nn.Conv2d"
"""A layer that is a matrix product: linear, or a 1x1 convolution."""


class LinearWeights:
    """The numbers of a linear layer or 1x1 convolution, that exact rewrites may change.

    A rewrite permutes or scales output channels; on a quantized layer a positive factor goes into
    the channel's scale, so the integer codes stay those that were trained.

    Attributes:
        weight: float32 ``[out, in]``; None for a quantized layer.
        bias: float32 ``[out]``.
        quantized: codes ``[out, in]`` and scales; None for a float layer.
    """

    def __init__(self, layer: Pointwise) -> None:
        """Read the numbers of ``layer``."""
        shape = layer.weight.shape[:2]
        self.quantized: QuantizedWeights | None = None
        self.weight: Array | None = None
        if isinstance(layer, QuantLayer):
            form = layer.export_form()
            codes = form.weight_codes.reshape(shape)
            self.quantized = dataclasses.replace(form, weight_codes=codes)
        else:
            self.weight = array(layer.weight).reshape(shape)
        bias = layer.bias
        self.bias = array(bias) if bias is not None else np.zeros(shape[0], np.float32)

    def scale_outputs(self, factors: Array) -> LinearWeights:
        """Multiply output channel ``i`` by ``factors[i]``, which must be positive."""
        self.bias = (self.bias * factors).astype(np.float32)
        if self.quantized is None:
            assert self.weight is not None
            self.weight = (self.weight * factors[:, None]).astype(np.float32)
        else:
            scale = (self.quantized.weight_scale * factors).astype(np.float32)
            # A dead channel is 0 with any step; its own must stay one that every engine can hold.
            dead = ~self.quantized.weight_codes.any(axis=1)
            scale[dead] = np.maximum(scale[dead], np.float32(MIN_SCALE))
            self.quantized = dataclasses.replace(self.quantized, weight_scale=scale)
        return self

    def permute_outputs(self, order: npt.NDArray[np.int64]) -> LinearWeights:
        """Put the output channels into ``order``."""
        return self._selected(order, self)

    def outputs(self, start: int, stop: int) -> LinearWeights:
        """Return a layer of the output channels ``start`` to ``stop`` alone."""
        return self._selected(slice(start, stop), copy.copy(self))

    def _selected(
        self, channels: slice | npt.NDArray[np.int64], target: LinearWeights
    ) -> LinearWeights:
        target.bias = self.bias[channels]
        if self.quantized is None:
            assert self.weight is not None
            target.weight = self.weight[channels]
        else:
            target.quantized = dataclasses.replace(
                self.quantized,
                weight_codes=self.quantized.weight_codes[channels],
                weight_scale=self.quantized.weight_scale[channels],
            )
        return target
