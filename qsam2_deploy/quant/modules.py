"""Quantized layers, swapping them into a model, and their form for export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError, Qsam2Error
from . import lsc, minmax  # noqa: F401  (they register themselves)
from .grid import MIN_SCALE, quantize
from .quantizer import Quantizer, make_quantizer


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized."""

    weight_bits: int
    input_bits: int
    method: str = "lsc"


@dataclass(frozen=True)
class QuantizedLinear:
    """The numbers of a quantized linear layer, for export.

    ``weight_codes * weight_scale[:, None]`` in float32 is the trained weight to the bit.

    Attributes:
        weight_codes: int8 ``[out, in]``, within the range of ``weight_bits``.
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


class QuantLinear(nn.Linear):
    """A linear layer whose weight (per output channel) and input (per tensor) are fake-quantized.

    Attributes:
        layer_name: its name in the model, for messages.
        weight_quantizer: per output channel.
        input_quantizer: per tensor.
    """

    weight_quantizer: Quantizer
    input_quantizer: Quantizer

    def __init__(self, linear: nn.Linear, plan: LayerPlan, layer_name: str = "") -> None:
        # The parameters are those of `linear` itself, so a throwaway size is enough here.
        super().__init__(1, 1, bias=False, device="meta")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.layer_name = layer_name
        self.weight_quantizer = make_quantizer(plan.method, plan.weight_bits, linear.out_features)
        self.input_quantizer = make_quantizer(plan.method, plan.input_bits)
        self.to(linear.weight.device).train(linear.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  (nn.Linear's name)
        """Map ``[..., in]`` to ``[..., out]``."""
        quantized = self.input_quantizer(input)
        return functional.linear(quantized, self.weight_quantizer(self.weight), self.bias)

    @torch.no_grad()
    def export_form(self) -> QuantizedLinear:
        """Return the integers and steps that :meth:`forward` uses in evaluation mode.

        Raises:
            Qsam2Error: a step or a weight is not finite; the message names the layer.
        """
        weight_scale = self._checked_scale(self.weight_quantizer, "weight")
        input_scale = self._checked_scale(self.input_quantizer, "input")
        if not bool(torch.isfinite(self.weight).all()):
            raise Qsam2Error(f"the weights of the layer {self.layer_name} are not finite")
        codes = quantize(self.weight, weight_scale[:, None], self.weight_quantizer.grid)
        return QuantizedLinear(
            weight_codes=codes.to(torch.int8).cpu().numpy(),
            weight_scale=weight_scale.cpu().numpy(),
            input_scale=input_scale.cpu().numpy(),
            weight_bits=self.weight_quantizer.grid.bits,
            input_bits=self.input_quantizer.grid.bits,
            dead_channels=self.dead_channels(),
        )

    def dead_channels(self) -> tuple[int, ...]:
        """Return the outputs whose weights are all zero."""
        dead = torch.nonzero(self.weight.detach().abs().amax(dim=1) == 0).flatten()
        return tuple(dead.tolist())

    def _checked_scale(self, quantizer: Quantizer, what: str) -> torch.Tensor:
        scale = quantizer.scale
        if not bool((torch.isfinite(scale) & (scale >= MIN_SCALE)).all()):
            raise Qsam2Error(
                f"the {what} step of the layer {self.layer_name} must be finite and positive, but "
                "it is not; calibrate the model again"
            )
        return scale


Swap = Callable[[Any, LayerPlan, str], QuantLinear]

_SWAPS: dict[type[nn.Module], Swap] = {}


def register_swap(kind: type[nn.Module], swap: Swap) -> None:
    """Register what makes the quantized form of a module of exactly the type ``kind``."""
    _SWAPS[kind] = swap


register_swap(nn.Linear, QuantLinear)


def quantize_linears(model: nn.Module, plan: Mapping[str, LayerPlan]) -> dict[str, QuantLinear]:
    """Swap the layers named in ``plan`` for quantized ones, in place.

    The new layers share their weights with the old ones; their quantizers have no statistics yet.

    Returns:
        The new layers by name, in the order of ``plan``.

    Raises:
        InputError: a name is not in the model, or its layer cannot be quantized.
    """
    modules = dict(model.named_modules())
    for name in plan:
        if type(modules.get(name)) not in _SWAPS:
            found = type(modules[name]).__name__ if name in modules else "no layer"
            raise InputError(f"cannot quantize the layer {name!r}: it must be Linear, got {found}")
    swapped = {}
    for name, layer_plan in plan.items():
        layer = modules[name]
        swapped[name] = _SWAPS[type(layer)](layer, layer_plan, name)
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, swapped[name])
    return swapped


def quantized_layers(model: nn.Module) -> dict[str, QuantLinear]:
    """Return the quantized layers of a model by name, in the model's order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantLinear)}
