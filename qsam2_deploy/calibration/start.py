"""Where quantizers start: at thresholds of their method, of a PTQ method, or of least error."""

from __future__ import annotations

import torch

from ..quant.layers.layer import QuantLayer
from ..quant.quantizers.quantizer import Quantizer
from ..quant.quantizers.value_statistics import ValueStatistics
from .ptq import PtqMethod, make_ptq
from .statistics import LayerStatistics

_LEAST_ERROR = "mse"


@torch.no_grad()
def start_weights(layer: QuantLayer, method: PtqMethod | None = None) -> None:
    """Start the quantizer of the layer's weight from that weight, on the grid that it has.

    Args:
        layer: is changed in place.
        method: chooses the clips; the default is what belongs to the quantizer.
    """
    quantizer, weight = layer.weight_quantizer, layer.weight_rows()
    values = ValueStatistics.of(weight, per_row=True)
    own = quantizer.start_range(values) if method is None else None
    if own is not None:
        clip = own[1]
    else:
        clip = (method or make_ptq(_LEAST_ERROR)).weight_clip(weight, quantizer.grid)
    quantizer.warm_start(clip, values.std, values.mean)


@torch.no_grad()
def start_from_statistics(
    quantizer: Quantizer, statistics: LayerStatistics, method: PtqMethod | None = None
) -> None:
    """Start a quantizer of activations, in place, from what was observed of them.

    Args:
        quantizer: of one step.
        statistics: of the activations.
        method: chooses the thresholds; the default is what belongs to the quantizer.
    """
    values = statistics.values(quantizer.scale.device)
    own = quantizer.start_range(values) if method is None else None
    if own is not None:
        low, clip = own
    else:
        chosen = (method or make_ptq(_LEAST_ERROR)).input_range(statistics, quantizer.grid)
        low, clip = (torch.tensor(end, device=values.mean.device) for end in chosen)
    quantizer.warm_start(clip, values.std, values.mean, low)
