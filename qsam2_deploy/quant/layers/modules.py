"""Which layers can be quantized, and swapping them into a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..._common.contradictions import shown
from ...errors import InputError
from ..quantizers.quantizer import Quantizer
from .convolutions import QuantConv2d, QuantConvTranspose2d
from .layer import QuantizedWeights, QuantLayer, held_weights
from .layer_plan import LayerPlan

__all__ = [
    "ENCODER_PREFIX",
    "ENCODER_SCOPE",
    "SCOPES",
    "LayerPlan",
    "QuantLayer",
    "QuantLinear",
    "QuantizedWeights",
    "held_weights",
    "layers_in_scope",
    "quantization_penalty",
    "quantize_layers",
    "quantized_layers",
    "register_swap",
]

ENCODER_SCOPE = "encoder"
SCOPES = (ENCODER_SCOPE, "all")
"""What can be quantized: the encoder's linear layers, or every linear layer and convolution."""

ENCODER_PREFIX = "image_encoder."
"""How the names of the image encoder's layers start."""

_NOT_IN_THE_GRAPHS = ("mask_downsample",)  # the runtime itself applies this one to mask prompts


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer whose weight and input are fake-quantized."""

    def __init__(self, linear: nn.Linear, plan: LayerPlan, layer_name: str = "") -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self._adopt(linear, plan, layer_name)

    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``[out, in]`` as it is."""
        return weight

    def weight_from_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``[out, in]`` as it is."""
        return rows

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  (nn.Linear's name)
        """Map ``[..., in]`` to ``[..., out]``."""
        return functional.linear(self.input_quantizer(input), self.quantized_weight(), self.bias)


Swap = Callable[[Any, LayerPlan, str], QuantLayer]

_SWAPS: dict[type[nn.Module], Swap] = {}


def register_swap(kind: type[nn.Module], swap: Swap) -> None:
    """Register what makes the quantized form of a module of exactly the type ``kind``."""
    _SWAPS[kind] = swap


register_swap(nn.Linear, QuantLinear)
register_swap(nn.Conv2d, QuantConv2d)
register_swap(nn.ConvTranspose2d, QuantConvTranspose2d)


def layers_in_scope(model: nn.Module, scope: str) -> dict[str, nn.Module]:
    """Return the layers of a float model that ``scope`` quantizes, by name.

    Raises:
        InputError: no scope has this name.
    """
    if scope not in SCOPES:
        raise InputError(f"the scope must be one of {', '.join(SCOPES)}, but got {shown(scope)}")
    if scope == ENCODER_SCOPE:
        return {
            name: module
            for name, module in model.named_modules()
            if type(module) is nn.Linear and name.startswith(ENCODER_PREFIX)
        }
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) in _SWAPS and name not in _NOT_IN_THE_GRAPHS
    }


def quantize_layers(model: nn.Module, plan: Mapping[str, LayerPlan]) -> dict[str, QuantLayer]:
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
            kinds = ", ".join(sorted(kind.__name__ for kind in _SWAPS))
            raise InputError(
                f"cannot quantize the layer {name!r}: it must be one of {kinds}, but got {found}"
            )
    swapped = {}
    for name, layer_plan in plan.items():
        layer = modules[name]
        swapped[name] = _SWAPS[type(layer)](layer, layer_plan, name)
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, swapped[name])
    return swapped


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Return the quantized layers of a model by name, in the model's order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantLayer)}


def quantization_penalty(model: nn.Module) -> torch.Tensor:
    """Return the sum of what the quantizers' papers add to a loss, unweighted, float32 ``[]``.

    That is the squared clipping thresholds of PACT (``quant/quantizers/pact.py``), whose weight is
    the paper's weight decay; 0 for a model without any.
    """
    penalties = [m.penalty() for m in model.modules() if isinstance(m, Quantizer)]
    return sum((p for p in penalties if p is not None), start=torch.zeros(()))
