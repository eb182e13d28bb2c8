"""Steps of the attention products, from the same pass that observes the inputs of the layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from ..quant.layers.attention import observe_attentions, quantize_attentions, quantized_parts
from ..quant.layers.layer_plan import QuantizerPlan
from .start import start_from_statistics
from .statistics import LayerStatistics


def observed_parts(model: nn.Module, quantized: Collection[str]) -> dict[str, nn.Module]:
    """Make the attention products of a float SAM2 model observable, in place.

    Args:
        model: is changed, but computes the same.
        quantized: names of the layers that are to be quantized.

    Returns:
        The modules that queries, keys and values go through, by name.
    """
    parts: dict[str, nn.Module] = {}
    for name, attention in observe_attentions(model).items():
        projections = {
            child for child, _ in attention.named_children() if f"{name}.{child}" in quantized
        }
        for part in quantized_parts(attention, projections):
            parts[_part_name(name, part)] = getattr(attention.product, part)
    return parts


def quantize_products(
    model: nn.Module, statistics: Mapping[str, LayerStatistics], plan: QuantizerPlan
) -> dict[str, dict[str, float]]:
    """Quantize the observed attention products of a model with quantized layers, in place.

    Args:
        model: its products have been observed.
        statistics: of the parts, by the names of :func:`observed_parts`.
        plan: the quantizer of each part, see ``product_plan`` of
            :mod:`~qsam2_deploy.quant.layers.attention`.

    Returns:
        The clip threshold of every part, by the name of the attention layer.
    """
    clips: dict[str, dict[str, float]] = {}
    plans = dict.fromkeys(observe_attentions(model), plan)
    for name, attention in quantize_attentions(model, plans).items():
        clips[name] = {}
        for part, quantizer in attention.product.quantizers.items():
            start_from_statistics(quantizer, statistics[_part_name(name, part)])
            clips[name][part] = float(quantizer.scale) * quantizer.grid.clip_steps
    model.requires_grad_(False)
    return clips


def _part_name(attention: str, part: str) -> str:
    return f"{attention}.product.{part}"
