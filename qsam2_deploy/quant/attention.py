"""Quantized attention products in a SAM2 model: those of the image encoder and memory attention.

Upstream's layers call ``F.scaled_dot_product_attention``. Their forward methods stay as they are;
that one call is redirected while they run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import InputError, Qsam2Error
from .attention_product import GRID, AttentionProduct
from .grid import MIN_SCALE
from .layer import QuantLayer
from .layer_plan import QuantizerPlan

FLOAT_ATTENTION, INTEGER_ATTENTION = "float", "int8"
ATTENTION_KINDS = (FLOAT_ATTENTION, INTEGER_ATTENTION)
"""How attention products are computed."""


@dataclass(frozen=True)
class AttentionSteps:
    """The steps of one attention product, for export; float32 ``[]``, finite and positive.

    Attributes:
        q: of the queries, before their division by ``sqrt(d)``.
        k: of the keys.
        v: of the values, or None where the input of their projection is on a grid already.
    """

    q: np.float32
    k: np.float32
    v: np.float32 | None


class QuantAttention(nn.Module):
    """An attention layer whose product is quantized; listed before the class that it extends.

    Attributes:
        projections: names of the linear layers that make queries, keys and values.
        values_first: the values are quantized before their projection.
        attention_name: its name in the model, for messages.
        product: what replaces the float product.
    """

    projections: ClassVar[tuple[str, ...]] = ()
    values_first: ClassVar[bool] = False
    attention_name: str
    product: AttentionProduct

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer of the ``sam2`` package with another product."""
        with _Redirected(self.product):
            return super().forward(*args, **kwargs)

    def projection_weights(self) -> Iterator[torch.Tensor]:
        """Yield the weights that the steps were found for."""
        for name in self.projections:
            yield self.get_submodule(name).get_parameter("weight")

    def steps(self) -> AttentionSteps | None:
        """Return the steps, or None while the product is one of floats.

        Raises:
            Qsam2Error: a step is not finite and positive; names the layer.
        """
        if not (self.product.enabled and self.product.quantizers):
            return None
        found = {n: self._checked(n, q.scale) for n, q in self.product.quantizers.items()}
        values = np.float32(found["v"]) if "v" in found else None
        return AttentionSteps(np.float32(found["q"]), np.float32(found["k"]), values)

    def _checked(self, part: str, scale: torch.Tensor) -> float:
        value = float(scale)
        if not (math.isfinite(value) and value >= MIN_SCALE):
            raise Qsam2Error(
                f"the step of {part} of the attention {self.attention_name} must be finite and "
                "positive, but it is not; calibrate the model again"
            )
        return value


class _Redirected(TorchFunctionMode):
    """While this context is open, attention products are computed by ``product``."""

    def __init__(self, product: AttentionProduct) -> None:
        super().__init__()
        self._product = product

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            func = self._product
        return func(*args, **(kwargs or {}))


def attentions(model: Any) -> dict[str, nn.Module]:
    """Return the attention layers of a SAM2 model whose products can be quantized, by name."""
    found = {
        f"image_encoder.trunk.blocks.{i}.attn": block.attn
        for i, block in enumerate(model.image_encoder.trunk.blocks)
    }
    for i, layer in enumerate(model.memory_attention.layers):
        for kind in ("self_attn", "cross_attn_image"):
            found[f"memory_attention.layers.{i}.{kind}"] = getattr(layer, kind)
    return found


def quantized_attentions(model: nn.Module) -> dict[str, QuantAttention]:
    """Return the attention layers with quantized products by name, in the model's order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantAttention) and module.product.quantizers
    }


def observe_attentions(model: nn.Module) -> dict[str, QuantAttention]:
    """Make every attention product of a SAM2 model observable, in place; it stays a float one."""
    return {name: _swap(module, name) for name, module in attentions(model).items()}


def product_plan(method: str, options: Mapping[str, Any] | None = None) -> QuantizerPlan:
    """Return the quantizer of each part of a product, on the only grid that there is for them.

    Args:
        method: name of a quantizer of activations.
        options: arguments of its constructor.
    """
    return QuantizerPlan(method, GRID, options or {})


def quantize_attentions(
    model: nn.Module, plan: Mapping[str, QuantizerPlan]
) -> dict[str, QuantAttention]:
    """Give attention products their quantizers, without any statistics yet, in place.

    Values get none where the projection that follows them is quantized: its own grid is theirs.

    Args:
        model: a SAM2 model, with its layers quantized already.
        plan: the quantizer of all parts, see :func:`product_plan`, by name of the attention layer.

    Raises:
        InputError: the model has no such attention layer, or its grid is another.
    """
    known = attentions(model)
    for name, quantizer in plan.items():
        if name not in known:
            raise InputError(f"the model has no attention layer {name!r}")
        if quantizer.grid != GRID:
            raise InputError(
                f"the attention {name} must have symmetric grids of {GRID.bits} bits, but got "
                f"{quantizer.grid.kind} ones of {quantizer.grid.bits}"
            )
    found = {name: _swap(known[name], name) for name in plan}
    for name, attention in found.items():
        product = attention.product
        for part in quantized_parts(attention, _quantized_children(attention)):
            setattr(product, part, plan[name].make())
        product.train(attention.training)
    return found


def quantized_parts(attention: QuantAttention, quantized: Collection[str]) -> tuple[str, ...]:
    """Return the parts of a product that need a quantizer of their own.

    Args:
        attention: the layer.
        quantized: names of those of its projections that are quantized, or are to be.
    """
    on_grid_already = attention.values_first and "v_proj" in quantized
    return ("q", "k") if on_grid_already else ("q", "k", "v")


@contextmanager
def float_attention(model: nn.Module) -> Iterator[None]:
    """Compute the attention products of ``model`` in floats while the context is open."""
    products = [attention.product for attention in quantized_attentions(model).values()]
    before = [product.enabled for product in products]
    try:
        for product in products:
            product.enabled = False
        yield
    finally:
        for product, enabled in zip(products, before, strict=True):
            product.enabled = enabled


def _quantized_children(attention: QuantAttention) -> set[str]:
    children = attention.named_children()
    return {name for name, child in children if isinstance(child, QuantLayer)}


def _swap(module: Any, name: str) -> QuantAttention:
    """Give an upstream layer its quantized class; it stays the object that others know."""
    if isinstance(module, QuantAttention):
        return module
    from . import attention_classes as classes

    kind: type[QuantAttention] = classes.QuantMultiScaleAttention
    if name.endswith("self_attn"):
        kind = classes.QuantSelfAttention
    elif name.endswith("cross_attn_image"):
        kind = classes.QuantCrossAttention
    module.__class__ = kind
    module.attention_name = name
    module.product = AttentionProduct(values_first=kind.values_first)
    swapped: QuantAttention = module
    return swapped
