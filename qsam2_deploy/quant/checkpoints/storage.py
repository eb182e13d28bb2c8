"""How a quantized checkpoint is stored small: weights as packed integers, the rest in halves."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from ..._common.files import check_output
from ...errors import CheckpointError
from ..layers.modules import quantized_layers
from .checkpoint import load_checkpoint, save_checkpoint
from .entry import float_state, make_entry
from .packed import packed_weight, unpack_weight


@torch.no_grad()
def pack_checkpoint(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, half: bool = False
) -> None:
    """Write a quantized checkpoint with its weights as integers of their own width.

    What the model computes stays the same, to the bit; the float weights behind the integers, from
    which a training would go on, are lost.

    Args:
        source: a checkpoint of ``qsam2-calibrate`` or ``qsam2-train``.
        output: the file to write.
        half: round all that is not quantized to half precision, which does change the model a
            little; without it, only what half precision holds exactly is stored so.

    Raises:
        CheckpointError: ``source`` cannot be used, or holds a float model.
        InputError: ``output`` cannot be written.
    """
    check_output(Path(output))
    checkpoint = load_checkpoint(source)
    entry = checkpoint.quantization
    if entry is None:
        raise CheckpointError(
            f"{source} is a float checkpoint, which has no integers to store; quantize it with "
            "qsam2-calibrate first"
        )
    layers = quantized_layers(checkpoint.model)
    for layer in layers.values():
        unpack_weight(layer, packed_weight(layer))
    if half:
        round_rest(checkpoint.model, layers)
    packed = make_entry(
        checkpoint.model,
        recipe=entry["recipe"],
        scope=entry["scope"],
        weight_bits=entry["weight_bits"],
        activation_bits=entry["activation_bits"],
        vrc=entry.get("vrc"),
        source_sha256=entry.get("source_sha256", ""),
        packed=True,
    )
    state = {
        name: _as_half(tensor)
        for name, tensor in float_state(checkpoint.model).items()
        if name.removesuffix(".weight") not in layers
    }
    save_checkpoint(output, state, config=checkpoint.config, quantization=packed)


@torch.no_grad()
def round_rest(model: nn.Module, plan: Collection[str]) -> None:
    """Round all tensors but the weights of layers in ``plan`` to half precision, in place.

    Quantizers, if the model has any yet, stay as they are.
    """
    quantized = {f"{name}.weight" for name in plan}
    for name, tensor in float_state(model).items():
        rounded = tensor.half().float()
        # What half precision cannot hold at all stays as it is.
        if name not in quantized and bool(torch.isfinite(rounded).all()):
            tensor.copy_(rounded)


def _as_half(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` in half precision if that holds it exactly, else as it is."""
    rounded = tensor.half()
    same = tensor.is_floating_point() and torch.equal(rounded.float(), tensor)
    return rounded if same else tensor
