"""What quantization costs each layer: the numbers of the report's table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..quant.layers.layer import QuantLayer
from ..quant.quantizers.quantizer import Quantizer

_FAR = 1e30
"""Beyond the range of any quantizer, and finite after a division by the smallest step."""

_NUMBERED = (
    (re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\."), "block"),
    (re.compile(r"memory_attention\.layers\.(\d+)\."), "memory attention"),
)
_PARTS = {
    "image_encoder.neck": "neck",
    "image_encoder.trunk.patch_embed": "patch embedding",
    "sam_mask_decoder": "mask decoder",
    "sam_prompt_encoder": "prompt encoder",
}


@dataclass(frozen=True)
class QuantizationError:
    """How far values are from their quantized form.

    Attributes:
        error: ``||x - quantized x|| / ||x||`` (Frobenius); 0 for zeros.
        clipped: share of the values that rounding would put beyond the first or last level.
    """

    error: float
    clipped: float


@dataclass(frozen=True)
class VrcNumbers:
    """What the checkpoint says that VRC did to a layer; NaN where it does not say.

    Attributes:
        applied: whether the weights were changed.
        std_ratio: standard deviation of the weights, after by before.
        output_error: relative output error on inputs that were held out.
        condition_number: of the Gram matrix of the inputs; infinite if it was singular.
    """

    applied: bool
    std_ratio: float
    output_error: float
    condition_number: float


@dataclass(frozen=True)
class LayerRow:
    """One quantized layer.

    Attributes:
        name: in the model.
        block: the part of the model that it belongs to.
        widths: such as ``w4a8``.
        grids: of weights and inputs, such as ``midrise/affine``.
        method: name of its quantizer; of weights and inputs, if they differ.
        count: number of weights.
        weight: cost of quantizing its weights.
        inputs: cost of quantizing its inputs, or None without data.
        vrc: what VRC did to it, or None.
    """

    name: str
    block: str
    widths: str
    grids: str
    method: str
    count: int
    weight: QuantizationError
    inputs: QuantizationError | None
    vrc: VrcNumbers | None

    @property
    def together(self) -> float:
        """Root of the sum of the squares of both relative errors.

        That is the relative error of the output where errors are independent of each other and of
        the values.
        """
        return math.hypot(self.weight.error, self.inputs.error if self.inputs else 0.0)


class ErrorMeter:
    """Adds up quantization errors over batches of values."""

    def __init__(self) -> None:
        self._noise = self._signal = 0.0
        self._clipped = self._count = 0

    @torch.no_grad()
    def add(self, quantizer: Quantizer, x: torch.Tensor) -> None:
        """Add ``x`` of a shape that ``quantizer`` takes; its statistics must be at rest."""
        low, high = clip_range(quantizer)
        half = row_steps(quantizer) / 2  # rounding takes values so far outside to the ends
        difference = (quantizer(x) - x).double()
        self._noise += float(difference.square().sum())
        self._signal += float(x.double().square().sum())
        self._clipped += int(((x < low - half) | (x > high + half)).sum())
        self._count += x.numel()

    def result(self) -> QuantizationError:
        """Return the error of all values so far."""
        error = math.sqrt(self._noise / self._signal) if self._signal > 0 else 0.0
        return QuantizationError(error, self._clipped / max(self._count, 1))


@torch.no_grad()
def clip_range(quantizer: Quantizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and the highest value of a quantizer, ``[channels, 1]`` or ``[]``."""
    shape = () if quantizer.channels is None else (quantizer.channels, 1)
    far = torch.full(shape, _FAR, device=quantizer.scale.device)
    return quantizer(-far), quantizer(far)


def row_steps(quantizer: Quantizer) -> torch.Tensor:
    """Return the steps of a quantizer, ``[channels, 1]`` or ``[]``."""
    return quantizer.scale if quantizer.channels is None else quantizer.scale[:, None]


def weight_error(layer: QuantLayer) -> QuantizationError:
    """Return what quantizing its weights costs a layer."""
    meter = ErrorMeter()
    meter.add(layer.weight_quantizer, layer.weight_rows().detach())
    return meter.result()


def layer_rows(
    layers: Mapping[str, QuantLayer],
    entry: Mapping[str, Any],
    inputs: Mapping[str, QuantizationError],
) -> list[LayerRow]:
    """Return a row for each layer, the worst first.

    Args:
        layers: quantized layers by name, in evaluation mode.
        entry: the quantization entry of their checkpoint.
        inputs: costs of quantizing inputs by layer; may be empty.
    """
    vrc = entry.get("vrc")
    rows = [
        _row(name, layer, inputs.get(name), vrc_numbers(vrc, name))
        for name, layer in layers.items()
    ]
    return sorted(rows, key=lambda row: -row.together)


def _row(
    name: str, layer: QuantLayer, inputs: QuantizationError | None, vrc: VrcNumbers | None
) -> LayerRow:
    quantizers = (layer.weight_quantizer, layer.input_quantizer)
    weight_grid, input_grid = (quantizer.grid for quantizer in quantizers)
    return LayerRow(
        name=name,
        block=block_of(name),
        widths=f"w{weight_grid.bits}a{input_grid.bits}",
        grids=f"{weight_grid.kind}/{input_grid.kind}",
        method=" / ".join(dict.fromkeys(quantizer.method for quantizer in quantizers)),
        count=layer.weight.numel(),
        weight=weight_error(layer),
        inputs=inputs,
        vrc=vrc,
    )


def vrc_numbers(reports: object, name: str) -> VrcNumbers | None:
    """Return what an entry's ``vrc`` says about a layer, or None."""
    report = reports.get(name) if isinstance(reports, Mapping) else None
    if not isinstance(report, Mapping):
        return None
    keys = ("std_ratio", "output_error", "condition_number")
    return VrcNumbers(bool(report.get("applied")), *(_number(report.get(key)) for key in keys))


def block_of(name: str) -> str:
    """Return the part of the model, such as ``block 3``, that the layer ``name`` belongs to."""
    for pattern, part in _NUMBERED:
        match = pattern.match(name)
        if match:
            return f"{part} {match[1]}"
    for prefix, part in _PARTS.items():
        if name.startswith(prefix):
            return part
    return name.partition(".")[0].replace("_", " ")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
