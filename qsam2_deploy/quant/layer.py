"""What all quantized layers have in common: two quantizers, and a form for export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..errors import Qsam2Error
from . import lsc, minmax  # noqa: F401  (they register themselves)
from .grid import MIN_SCALE, quantize
from .quantizer import Quantizer, make_quantizer


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized.

    Attributes:
        weight_bits: width of the weight codes, 2 to 8.
        input_bits: width of the input codes, 2 to 8.
        method: name of the quantizer.
        half_steps: round all steps to half precision.
    """

    weight_bits: int
    input_bits: int
    method: str = "lsc"
    half_steps: bool = False


@dataclass(frozen=True)
class QuantizedWeights:
    """The numbers of a quantized layer, for export.

    ``weight_codes`` times the ``weight_scale`` of their output channel, in float32, is the trained
    weight to the bit.

    Attributes:
        weight_codes: int8, of the shape of the layer's weight (``[out, in]`` for a linear layer,
            ``[out, in / groups, h, w]`` for a convolution, ``[in, out, h, w]`` for a transposed
            one), within the range of ``weight_bits``.
        weight_scale: float32 ``[out]``, positive.
        input_scale: float32 ``[]``, positive.
        weight_bits: width of the weight codes, 2 to 8.
        input_bits: width of the input codes, 2 to 8.
        dead_channels: outputs whose weights are all zero; their step is the smallest allowed.
    """

    weight_codes: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    input_scale: npt.NDArray[np.float32]
    weight_bits: int
    input_bits: int
    dead_channels: tuple[int, ...] = ()


class QuantLayer(nn.Module):
    """A layer whose weight (per output channel) and input (per tensor) are fake-quantized.

    Quantizers see a weight as rows, one for each output channel; a subclass says how to make rows
    of its weight and back. It is listed before the layer type of torch that it extends.

    Attributes:
        layer_name: its name in the model, for messages.
        weight_quantizer: per output channel.
        input_quantizer: per tensor.
    """

    layer_name: str
    weight: torch.Tensor
    weight_quantizer: Quantizer
    input_quantizer: Quantizer
    _held: torch.Tensor | None = None

    @abstractmethod
    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight of the layer's shape as ``[out, n]``."""

    @abstractmethod
    def weight_from_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``[out, n]`` in the shape of the layer's weight."""

    def weight_rows(self) -> torch.Tensor:
        """Return the weight before quantization, ``[out, n]``."""
        return self.rows(self.weight)

    def quantized_weight(self) -> torch.Tensor:
        """Return the fake-quantized weight, in its own shape."""
        if self._held is not None:
            return self._held
        return self.weight_from_rows(self.weight_quantizer(self.weight_rows()))

    @torch.no_grad()
    def export_form(self) -> QuantizedWeights:
        """Return the integers and steps that the layer uses in evaluation mode.

        Raises:
            Qsam2Error: a step or a weight is not finite; the message names the layer.
        """
        weight_scale = self._checked_scale(self.weight_quantizer, "weight")
        input_scale = self._checked_scale(self.input_quantizer, "input")
        if not bool(torch.isfinite(self.weight).all()):
            raise Qsam2Error(f"the weights of the layer {self.layer_name} are not finite")
        codes = quantize(self.weight_rows(), weight_scale[:, None], self.weight_quantizer.grid)
        return QuantizedWeights(
            weight_codes=self.weight_from_rows(codes).to(torch.int8).cpu().numpy(),
            weight_scale=weight_scale.cpu().numpy(),
            input_scale=input_scale.cpu().numpy(),
            weight_bits=self.weight_quantizer.grid.bits,
            input_bits=self.input_quantizer.grid.bits,
            dead_channels=self.dead_channels(),
        )

    def dead_channels(self) -> tuple[int, ...]:
        """Return the outputs whose weights are all zero."""
        dead = torch.nonzero(self.weight_rows().detach().abs().amax(dim=1) == 0).flatten()
        return tuple(dead.tolist())

    def _adopt(
        self, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, plan: LayerPlan, layer_name: str
    ) -> None:
        """Take over the parameters of ``layer`` itself, and make the quantizers."""
        weight = layer.weight
        self.weight = weight
        self.register_parameter("bias", cast("nn.Parameter | None", layer.bias))
        self.layer_name = layer_name
        channels = len(self.weight_rows())
        self.weight_quantizer = make_quantizer(plan.method, plan.weight_bits, channels)
        self.input_quantizer = make_quantizer(plan.method, plan.input_bits)
        for quantizer in (self.weight_quantizer, self.input_quantizer):
            quantizer.half_step = plan.half_steps
        self.to(weight.device).train(layer.training)

    def _checked_scale(self, quantizer: Quantizer, what: str) -> torch.Tensor:
        scale = quantizer.scale
        if not bool((torch.isfinite(scale) & (scale >= MIN_SCALE)).all()):
            raise Qsam2Error(
                f"the {what} step of the layer {self.layer_name} must be finite and positive, but "
                "it is not; calibrate the model again"
            )
        return scale


@contextmanager
def held_weights(layers: Iterable[QuantLayer]) -> Iterator[None]:
    """Quantize the weight of each layer once, for all its calls inside the block.

    For layers that run many times in one training step; gradients of all calls add up in the one
    quantized weight. The block must hold the backward pass too where activations are recomputed
    in it, and no weight or quantizer may change inside.
    """
    held = list(layers)
    try:
        for layer in held:
            layer._held = layer.quantized_weight()  # noqa: SLF001  (its own class)
        yield
    finally:
        for layer in held:
            layer._held = None  # noqa: SLF001
