"""Quantized checkpoints as the start and the end of a training, and the teacher of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..._common.version import __version__
from ...errors import CheckpointError
from ...quant.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
)
from ...quant.checkpoints.entry import float_state, make_entry
from ...quant.checkpoints.storage import round_rest
from ...quant.layers.attention import quantized_attentions
from ...quant.layers.modules import quantized_layers
from ...quant.quantizers.quantizer import Quantizer

_PRODUCER = {"producer": f"qsam2-deploy {__version__}"}


def load_quantized(path: str | os.PathLike[str], image_size: int | None = None) -> Checkpoint:
    """Load a checkpoint of ``qsam2-calibrate`` or of an earlier training.

    Args:
        path: the file.
        image_size: replaces the model's image size, a multiple of 32.

    Raises:
        CheckpointError: the file cannot be used, or holds a float model.
    """
    checkpoint = load_checkpoint(path, image_size=image_size)
    if checkpoint.quantization is None:
        raise CheckpointError(
            f"{path} is a float checkpoint, but its quantizers are to be trained; quantize it with "
            "qsam2-calibrate first, or train it in floating point with a recipe and --init"
        )
    return checkpoint


def load_teacher(path: str | os.PathLike[str], student: Checkpoint) -> Checkpoint:
    """Load the float model that ``student`` is to follow.

    Raises:
        CheckpointError: the file cannot be used, is quantized, or of another architecture.
    """
    wanted, (found, quantized) = float_state(student.model), read_tensors(path)
    if quantized:
        raise CheckpointError(
            f"the teacher {path} is quantized; give the float checkpoint that {student.path} was "
            "quantized from"
        )
    differs = {name for name in wanted if name not in found} | (found.keys() - wanted.keys())
    differs |= {n for n in wanted if n in found and wanted[n].shape != found[n].shape}
    if differs:
        raise CheckpointError(
            f"the teacher {path} is of another architecture than {student.path} (they differ in "
            f"{min(differs)}); give the float checkpoint that it was quantized from"
        )
    size = int(student.model.image_size)
    return load_checkpoint(path, config=student.config, image_size=size)


def describe_quantization(model: nn.Module) -> dict[str, list[Any]]:
    """Return method, widths and rounding of each quantized layer and product: plain values."""
    quantizers: dict[str, list[Quantizer]] = {
        name: [layer.weight_quantizer, layer.input_quantizer]
        for name, layer in quantized_layers(model).items()
    }
    for name, attention in quantized_attentions(model).items():
        quantizers[name] = list(attention.product.quantizers.values())
    return {
        name: [[quantizer.method, quantizer.grid.bits, quantizer.half_step] for quantizer in found]
        for name, found in quantizers.items()
    }


def save_quantized(
    path: Path, model: nn.Module, start: Checkpoint, training: Mapping[str, Any]
) -> None:
    """Write a trained quantized model in the format that ``start`` has.

    What the calibration rounded to half precision is rounded again, in place.

    Args:
        path: the file.
        model: with the final widths.
        start: the checkpoint that the training started from.
        training: how it was trained, plain values; becomes a part of the entry's recipe.

    Raises:
        InputError: the file cannot be written.
    """
    entry = start.quantization or {}
    layers = quantized_layers(model)
    if any(layer.weight_quantizer.half_step for layer in layers.values()):
        round_rest(model, layers)
    quantization = make_entry(
        model,
        recipe={**entry["recipe"], "training": {**_PRODUCER, **training}},
        scope=entry["scope"],
        weight_bits=entry["weight_bits"],
        activation_bits=entry["activation_bits"],
        vrc=entry.get("vrc"),
        source_sha256=entry.get("source_sha256", ""),
    )
    state = {name: tensor.cpu() for name, tensor in float_state(model).items()}
    save_checkpoint(path, state, config=start.config, quantization=quantization)
