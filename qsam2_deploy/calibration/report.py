"""What a calibration did, for people and as JSON."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .config import CalibrationConfig
from .vrc import VrcReport

_BLOCK = re.compile(r"(.*?\.(?:blocks|layers)\.\d+)\.")


@dataclass(frozen=True)
class BlockReport:
    """What VRC did to the layers of one block, such as ``image_encoder.trunk.blocks.3``.

    Attributes:
        name: in the model.
        std_ratio: root mean square of its weights' standard deviations, after by before, every
            layer counted by its number of weights.
        weight_error_before: mean over its layers of the weights' quantization error.
        weight_error_after: the same after VRC.
    """

    name: str
    std_ratio: float
    weight_error_before: float
    weight_error_after: float


@dataclass(frozen=True)
class LayerReport:
    """One quantized layer.

    Attributes:
        name: in the model.
        weight_bits: width of its weight codes.
        input_bits: width of its input codes.
        input_std: standard deviation of its inputs.
        input_absmax: largest magnitude of its inputs.
        input_clip: clip threshold of its inputs; on an affine grid the width of their range.
        dead_channels: number of outputs whose weights are all zero.
        vrc: what VRC did to its weights, or None.
    """

    name: str
    weight_bits: int
    input_bits: int
    input_std: float
    input_absmax: float
    input_clip: float
    dead_channels: int
    vrc: VrcReport | None


@dataclass(frozen=True)
class CalibrationReport:
    """The result of a calibration.

    Attributes:
        output: the file that was written.
        source_sha256: digest of the float checkpoint.
        config: the settings.
        images: number of calibration images.
        layers: the quantized layers, in the order in which they run.
        feature_error: relative error (Frobenius) of the quantized encoder's features on
            ``feature_images`` of the images.
        feature_images: number of images behind ``feature_error``.
        attention: clip thresholds of the quantized attention products, by layer and part.
        ptq_notes: what the post-training method found out; plain values.
    """

    output: Path
    source_sha256: str
    config: CalibrationConfig
    images: int
    layers: tuple[LayerReport, ...]
    feature_error: float
    feature_images: int
    attention: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ptq_notes: dict[str, Any] = field(default_factory=dict)

    @property
    def std_ratio(self) -> float:
        """Median over layers of the weights' standard deviation, after VRC by before."""
        return finite_median(layer.vrc.std_ratio for layer in self.layers if layer.vrc)

    @property
    def output_error(self) -> float:
        """Median over layers of VRC's relative output error on held-out inputs."""
        return finite_median(layer.vrc.output_error for layer in self.layers if layer.vrc)

    @property
    def blocks(self) -> tuple[BlockReport, ...]:
        """The blocks with layers that VRC looked at, in the order in which they run."""
        found: dict[str, list[VrcReport]] = {}
        for layer in self.layers:
            block = _BLOCK.match(layer.name)
            if block and layer.vrc:
                found.setdefault(block[1], []).append(layer.vrc)
        return tuple(_block_report(name, reports) for name, reports in found.items())

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        data = asdict(replace(self, output=Path(self.output.name)))
        data["output"] = self.output.name
        data["blocks"] = [asdict(block) for block in self.blocks]
        return json.dumps(_finite(data), indent=1, allow_nan=False)


def _block_report(name: str, reports: list[VrcReport]) -> BlockReport:
    before = sum(r.weights * r.std_before**2 for r in reports)
    after = sum(r.weights * (r.std_before * r.std_ratio) ** 2 for r in reports)
    return BlockReport(
        name,
        std_ratio=math.sqrt(after / before) if before > 0 else 1.0,
        weight_error_before=statistics.fmean(r.weight_error_before for r in reports),
        weight_error_after=statistics.fmean(r.weight_error_after for r in reports),
    )


def finite_median(values: Iterable[float]) -> float:
    """Return the median of what is finite; NaN of nothing."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
