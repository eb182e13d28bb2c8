"""Where the quantizers of a layer start: at thresholds of their method, or of least error."""

from __future__ import annotations

import torch

from ..quant.layer import QuantLayer
from ..quant.value_statistics import ValueStatistics
from .clip import histogram_range, weight_clip
from .statistics import LayerStatistics


@torch.no_grad()
def start_weights(layer: QuantLayer) -> None:
    """Start the weight quantizer of ``layer`` from its weight, in place."""
    quantizer, weight = layer.weight_quantizer, layer.weight_rows()
    values = ValueStatistics.of(weight, per_row=True)
    found = quantizer.start_range(values)
    clip = weight_clip(weight, quantizer.grid) if found is None else found[1]
    quantizer.warm_start(clip, values.std, values.mean)


@torch.no_grad()
def start_inputs(layer: QuantLayer, statistics: LayerStatistics) -> None:
    """Start the input quantizer of ``layer`` from the statistics of its inputs, in place."""
    quantizer, values = layer.input_quantizer, statistics.values()
    found = quantizer.start_range(values)
    if found is None:
        low, clip = map(torch.tensor, histogram_range(statistics.histogram, quantizer.grid))
    else:
        low, clip = found
    quantizer.warm_start(clip, values.std, values.mean, low)
