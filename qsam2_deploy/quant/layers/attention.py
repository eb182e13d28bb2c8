"""Quantized attention products in a SAM2 model: those of the image encoder and memory attention.

Upstream's layers call ``F.scaled_dot_product_attention``. Their forward methods stay as they are;
that one call is redirected while they run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...errors import InputError
from .attention_layer import QuantAttention
from .attention_product import GRID, AttentionProduct
from .layer import QuantLayer
from .layer_plan import QuantizerPlan

FLOAT_ATTENTION, INTEGER_ATTENTION = "float", "int8"
ATTENTION_KINDS = (FLOAT_ATTENTION, INTEGER_ATTENTION)
"""How attention products are computed."""


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
