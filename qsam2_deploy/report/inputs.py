"""What the quantizers of inputs see, collected anew from images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from ..calibration.data import CalibrationImages
from ..calibration.histogram import Histogram
from ..calibration.session import TrackingSession
from ..calibration.statistics import collect_statistics, observed_inputs
from ..quant.layers.layer import QuantLayer
from .layers import ErrorMeter, QuantizationError

_ENCODER = "image_encoder."


@dataclass(frozen=True)
class InputNumbers:
    """Inputs of one layer: their cost of quantization, and their histogram."""

    error: QuantizationError
    histogram: Histogram


def input_numbers(
    model: Any, layers: Mapping[str, QuantLayer], images: CalibrationImages
) -> dict[str, InputNumbers]:
    """Run ``images`` through the quantized ``model`` and measure the inputs of its layers.

    Raises:
        Qsam2Error: an activation is not finite, or a layer never ran; the message names it.
        VideoError: an image is damaged.
    """
    meters = {name: ErrorMeter() for name in layers}
    with _metered(layers, meters):
        statistics = collect_statistics(
            runner(model, layers),
            layers,
            images,
            count=len(images),
            grams=False,
            description="inputs",
        )
    return {
        name: InputNumbers(meters[name].result(), found.histogram)
        for name, found in statistics.items()
    }


def runner(model: Any, layers: Mapping[str, Any]) -> Callable[[torch.Tensor], Any]:
    """Return what runs all of ``layers`` on an image: the encoder, or a session of tracking."""
    if all(name.startswith(_ENCODER) for name in layers):
        encoder: Callable[[torch.Tensor], Any] = model.image_encoder
        return encoder
    return TrackingSession(model)


def _metered(
    layers: Mapping[str, QuantLayer], meters: Mapping[str, ErrorMeter]
) -> AbstractContextManager[None]:
    def meter(name: str, x: torch.Tensor) -> None:
        meters[name].add(layers[name].input_quantizer, x.detach())

    return observed_inputs(layers, meter)
