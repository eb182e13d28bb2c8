"""What a calibration did, for people and as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .config import CalibrationConfig
from .vrc import VrcReport


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
    """

    output: Path
    source_sha256: str
    config: CalibrationConfig
    images: int
    layers: tuple[LayerReport, ...]
    feature_error: float
    feature_images: int

    @property
    def std_ratio(self) -> float:
        """Median over layers of the weights' standard deviation, after VRC by before."""
        return _median(layer.vrc.std_ratio for layer in self.layers if layer.vrc)

    @property
    def output_error(self) -> float:
        """Median over layers of VRC's relative output error on held-out inputs."""
        return _median(layer.vrc.output_error for layer in self.layers if layer.vrc)

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        data = asdict(replace(self, output=Path(self.output.name)))
        data["output"] = self.output.name
        return json.dumps(_finite(data), indent=1, allow_nan=False)


def _median(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
