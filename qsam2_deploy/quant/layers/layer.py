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

from ...errors import Qsam2Error
from ..quantizers.grid import MIN_SCALE, SYMMETRIC, Grid, quantize
from ..quantizers.quantizer import Quantizer
from .layer_plan import PER_TENSOR, LayerPlan


@dataclass(frozen=True)
class QuantizedWeights:
    """The numbers of a quantized layer, for export.

    Attributes:
        weight_codes: int8, of the shape of the layer's weight (``[out, in]`` for a linear layer,
            ``[out, in / groups, h, w]`` for a convolution, ``[in, out, h, w]`` for a transposed
            one), within the range of ``weight_bits``.
        weight_scale: float32 ``[out]``, positive.
        input_scale: float32 ``[]``, positive.
        weight_bits: width of the weight codes, 2 to 8.
        input_bits: width of the input codes, 2 to 8.
        dead_channels: outputs whose weights are all zero; their step is the smallest allowed.
        weight_grid: kind of the weight's grid. The codes on a symmetric grid, and the codes plus
            1/2 on a mid-rise one, times the scale of their output channel in float32, are the
            trained weight to the bit.
        input_grid: kind of the input's grid.
        input_zero_point: code of zero; 0 unless the input's grid is affine.
    """

    weight_codes: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    input_scale: npt.NDArray[np.float32]
    weight_bits: int
    input_bits: int
    dead_channels: tuple[int, ...] = ()
    weight_grid: str = SYMMETRIC
    input_grid: str = SYMMETRIC
    input_zero_point: int = 0

    @property
    def weight_levels(self) -> npt.NDArray[np.float32]:
        """What the codes stand for, in steps: float32 of their shape."""
        centre = Grid(self.weight_bits, self.weight_grid).centre
        levels: npt.NDArray[np.float32] = self.weight_codes + np.float32(centre)
        return levels


class QuantLayer(nn.Module):
    """A layer whose weight and input are fake-quantized.

    Quantizers see a weight as rows, one for each output channel, or one in all; a subclass says how
    to make rows of its weight and back. It is listed before the layer type of torch that it
    extends.

    Attributes:
        layer_name: its name in the model, for messages.
        granularity: ``channel`` or ``tensor``: what has a step of its own in the weight.
        weight_quantizer: per output channel, or with a single one.
        input_quantizer: per tensor.
    """

    layer_name: str
    granularity: str
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
        """Return the weight before quantization as its quantizer sees it.

        That is ``[out, n]``, or ``[1, out * n]`` with one step in all.
        """
        rows = self.rows(self.weight)
        return rows.reshape(1, -1) if self.granularity == PER_TENSOR else rows

    def quantized_weight(self) -> torch.Tensor:
        """Return the fake-quantized weight, in its own shape."""
        if self._held is not None:
            return self._held
        return self.weight_from_quantizer(self.weight_quantizer(self.weight_rows()))

    def weight_from_quantizer(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows as the weight's quantizer sees them in the shape of the layer's weight."""
        return self.weight_from_rows(rows.reshape(self.rows(self.weight).shape))

    @torch.no_grad()
    def export_form(self) -> QuantizedWeights:
        """Return the integers and steps that the layer uses in evaluation mode.

        Raises:
            Qsam2Error: a step, a zero-point or a weight is not finite, or a step is not positive;
                the message names the layer.
        """
        scale = self._checked_scale(self.weight_quantizer, "weight")
        input_scale = self._checked_scale(self.input_quantizer, "input")
        if not bool(torch.isfinite(self.weight).all()):
            raise Qsam2Error(f"the weights of the layer {self.layer_name} are not finite")
        grid, input_grid = self.weight_quantizer.grid, self.input_quantizer.grid
        codes = grid.codes(quantize(self.weight_rows(), scale[:, None], grid))
        outputs = len(self.rows(self.weight))
        return QuantizedWeights(
            weight_codes=self.weight_from_quantizer(codes).to(torch.int8).cpu().numpy(),
            weight_scale=scale.expand(outputs).cpu().numpy().copy(),
            input_scale=input_scale.cpu().numpy(),
            weight_bits=grid.bits,
            input_bits=input_grid.bits,
            dead_channels=self.dead_channels(),
            weight_grid=grid.kind,
            input_grid=input_grid.kind,
            input_zero_point=self._checked_zero_point(),
        )

    def dead_channels(self) -> tuple[int, ...]:
        """Return the outputs whose weights are all zero."""
        dead = torch.nonzero(self.rows(self.weight).detach().abs().amax(dim=1) == 0).flatten()
        return tuple(dead.tolist())

    def _adopt(
        self, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, plan: LayerPlan, layer_name: str
    ) -> None:
        """Take over the parameters of ``layer`` itself, and make the quantizers."""
        weight = layer.weight
        self.weight = weight
        self.register_parameter("bias", cast("nn.Parameter | None", layer.bias))
        self.layer_name = layer_name
        self.granularity = plan.granularity
        self.weight_quantizer = plan.weight.make(channels=len(self.weight_rows()))
        self.input_quantizer = plan.inputs.make()
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

    def _checked_zero_point(self) -> int:
        zero_point = self.input_quantizer.zero_point
        if zero_point is None:
            return 0
        grid, found = self.input_quantizer.grid, float(zero_point)
        # Also False where it is not a number.
        if not (grid.qmin <= found <= grid.qmax and found == round(found)):
            raise Qsam2Error(
                f"the input zero-point of the layer {self.layer_name} must be an integer of "
                f"{grid.qmin} to {grid.qmax}, but got {found}; calibrate the model again"
            )
        return int(found)


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
