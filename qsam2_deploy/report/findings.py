"""Everything that a report says, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from ..calibration.data import CalibrationImages, calibration_images
from ..errors import CheckpointError, InputError
from ..quant.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ..quant.layers.layer import QuantLayer
from ..quant.layers.modules import quantized_layers
from ..training.run.curves import Line
from ..training.run.log import log_beside, read_log
from .inputs import InputNumbers, input_numbers
from .job import ReportJob
from .layers import LayerRow, layer_rows
from .scores import ScorePoint, score_points
from .sizes import ModelSizes, model_sizes
from .sweep import LambdaSweep, SweepWidths, lambda_sweeps, sweepable
from .weights import (
    ClippedHistogram,
    Distribution,
    distributions,
    input_histogram,
    weight_histogram,
)

_SHOWN = 6
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Findings:
    """The numbers behind a page; what could not be found is empty.

    Attributes:
        checkpoint: the quantized checkpoint.
        sizes: of its weights.
        rows: its layers, the worst first.
        order: names of the layers in the order of the model.
        after: weights by block.
        before: the same of the float checkpoint.
        sweeps: errors against lambda, by layer.
        weight_clips: weights in steps and their range, by layer.
        input_clips: inputs and their range, by layer.
        images: number of images behind all that is about inputs.
        has_float: whether there is a float checkpoint.
        lines: of the training's log.
        points: accuracy against size.
    """

    checkpoint: Checkpoint
    sizes: ModelSizes
    rows: Sequence[LayerRow]
    order: Sequence[str]
    after: Sequence[Distribution]
    before: Sequence[Distribution] = ()
    sweeps: Mapping[str, LambdaSweep] = field(default_factory=dict)
    weight_clips: Mapping[str, ClippedHistogram] = field(default_factory=dict)
    input_clips: Mapping[str, ClippedHistogram] = field(default_factory=dict)
    images: int = 0
    has_float: bool = False
    lines: Sequence[Line] = ()
    points: Sequence[ScorePoint] = ()

    @property
    def entry(self) -> Mapping[str, Any]:
        """The quantization entry."""
        return self.checkpoint.quantization or {}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What the entry says about how it was made."""
        recipe = self.entry.get("recipe")
        return recipe if isinstance(recipe, Mapping) else {}


def collect_findings(job: ReportJob) -> Findings:
    """Read all files of ``job`` and measure what they allow.

    Raises:
        InputError: a file cannot be used; the message says why.
        Qsam2Error: an activation is not finite.
    """
    lines = _log_lines(job)
    checkpoint = _quantized(job.checkpoint)
    source = _float_source(job.float_checkpoint, checkpoint)
    points = score_points(job.scores, _models(job))
    layers = quantized_layers(checkpoint.model)
    images = _images(job, checkpoint)
    inputs = input_numbers(checkpoint.model, layers, images) if images else {}
    entry = checkpoint.quantization or {}
    rows = layer_rows(layers, entry, {name: found.error for name, found in inputs.items()})
    shown = _shown(rows, job.layers)
    return Findings(
        checkpoint=checkpoint,
        sizes=model_sizes(checkpoint.model),
        rows=rows,
        order=list(layers),
        after=distributions({name: layer.weight for name, layer in layers.items()}),
        before=_before(source, layers),
        sweeps=_sweeps(source, layers, shown, images, entry),
        weight_clips={name: weight_histogram(layers[name]) for name in shown},
        input_clips=_input_clips(layers, inputs, shown),
        images=len(images) if images else 0,
        has_float=source is not None,
        lines=lines,
        points=points,
    )


def _log_lines(job: ReportJob) -> list[Line]:
    if job.log is not None and not job.log.is_file():
        raise InputError(f"there is no log {job.log}; check the path")
    return read_log(job.log or log_beside(job.checkpoint))


def _quantized(path: Path) -> Checkpoint:
    checkpoint = load_checkpoint(path)
    if checkpoint.quantization is None:
        raise CheckpointError(
            f"the checkpoint {path} is not quantized, so there is nothing to report; give one that "
            "qsam2-calibrate made (and this one with --float)"
        )
    return checkpoint


def _float_source(path: Path | None, quantized: Checkpoint) -> Checkpoint | None:
    """Load the float checkpoint, if it is the one that ``quantized`` was made from."""
    if path is None:
        return None
    source = load_checkpoint(path, config=quantized.config)
    expected = str((quantized.quantization or {}).get("source_sha256"))
    if source.sha256 != expected:
        raise CheckpointError(
            f"{path} is not the float checkpoint that {quantized.path} was made from: its SHA-256 "
            f"is {source.sha256[:_SHOWN_DIGITS]}..., but the source's is "
            f"{expected[:_SHOWN_DIGITS]}...; give that file"
        )
    return source


def _models(job: ReportJob) -> list[Path]:
    return [*job.models, job.checkpoint, *([job.float_checkpoint] if job.float_checkpoint else [])]


def _images(job: ReportJob, checkpoint: Checkpoint) -> CalibrationImages | None:
    if job.data is None:
        return None
    return calibration_images(job.data, checkpoint.model.image_size, job.images)


def _shown(rows: Sequence[LayerRow], patterns: Sequence[str]) -> list[str]:
    """The layers that are drawn one by one, the worst first."""
    names = [row.name for row in rows]
    if not patterns:
        return names[:_SHOWN]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"the pattern {pattern!r} fits no quantized layer; they have names such as "
                f"{names[0]}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _before(source: Checkpoint | None, layers: Mapping[str, QuantLayer]) -> list[Distribution]:
    if source is None:
        return []
    weights: dict[str, torch.Tensor] = {
        name: source.model.get_submodule(name).get_parameter("weight") for name in layers
    }
    return distributions(weights)


def _sweeps(
    source: Checkpoint | None,
    layers: Mapping[str, QuantLayer],
    shown: Sequence[str],
    images: CalibrationImages | None,
    entry: Mapping[str, Any],
) -> dict[str, LambdaSweep]:
    if source is None or images is None:
        return {}
    linears = sweepable(source.model, shown)
    widths = {
        name: SweepWidths(layers[name].weight_quantizer.grid, layers[name].input_quantizer.grid)
        for name in linears
    }
    recipe = entry.get("recipe")
    chosen = recipe if isinstance(recipe, Mapping) else {}
    found = lambda_sweeps(source.model, linears, images, widths, chosen) if linears else {}
    return {name: found[name] for name in linears}


def _input_clips(
    layers: Mapping[str, QuantLayer], inputs: Mapping[str, InputNumbers], shown: Sequence[str]
) -> dict[str, ClippedHistogram]:
    return {
        name: input_histogram(
            layers[name],
            inputs[name].histogram.centres().numpy(),
            inputs[name].histogram.counts.numpy(),
        )
        for name in shown
        if name in inputs
    }
