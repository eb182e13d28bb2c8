"""Reading and writing checkpoints: official ones, those of others, and ours with quantizers.

What is written is a ``torch.save`` of ``{"model": state_dict, "config": ..., "quantization":
...}``; the last two are optional, and official files lack them. What is read may be wrapped and
named in other ways (``reading.py``, ``docs/formats.md``). Nothing but tensors and plain values is
ever unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..._common.contradictions import contradictions
from ..._common.files import atomic_path, file_digest
from ..._common.hub import CONFIG
from ...errors import CheckpointError
from .architecture import (
    build_model,
    checked_config,
    effective_config,
    official_config,
    read_config,
    recognise_architecture,
)
from .fitting import check_fit, check_memory, no_architecture
from .plain_file import memory_of_file
from .reading import AGAIN, Reading, StateDict, read_checkpoint
from .transformers_config import read_transformers_config

if TYPE_CHECKING:
    from sam2.sam2_video_predictor import SAM2VideoPredictor


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its model built and loaded.

    Attributes:
        path: the file or folder.
        name: the official name of the architecture, else the file's stem.
        model: evaluation mode, float32, on the CPU; with quantized layers if the file has them.
        config: the configuration that ``model`` was built from, flags and image size included.
        sha256: digest of the file of its weights, 64 hexadecimal digits.
        quantization: the file's quantization entry, or None.
    """

    path: Path
    name: str
    model: SAM2VideoPredictor
    config: dict[str, Any]
    sha256: str
    quantization: dict[str, Any] | None = None


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> Checkpoint:
    """Load a checkpoint and build its model.

    The architecture comes from ``config`` if given, else from the file's own ``config`` entry or,
    with the names of transformers, the ``config.json`` beside it, else from the names and shapes
    of its tensors.

    Args:
        path: the checkpoint: a file, a folder that transformers saved, or a name on the
            Hugging Face Hub such as ``facebook/sam2.1-hiera-tiny``.
        config: a YAML file of a model configuration, or its content.
        image_size: replaces the configured image size, a multiple of 32.

    Raises:
        CheckpointError: the file or the configuration cannot be used; the message says why.
        MissingDependencyError: ``sam2``, or what reads this kind of file, is not installed.
    """
    found = read_checkpoint(path)
    source, weights = found.path, found.location.weights
    with contradictions(source, "it cannot be loaded", raises=CheckpointError, advice=AGAIN):
        quantization = found.extra.get("quantization")
        packed = frozenset[str]()
        if quantization is not None:
            from .entry import apply_entry, packed_weight_names

            packed = packed_weight_names(quantization)
        official = recognise_architecture(found.shapes)
        check_memory(found)
        chosen, origin = _choose_config(config, found, official)
        full = effective_config(chosen, image_size)
        with memory_of_file(weights.stat().st_size):
            model = build_model(full)
        check_fit(model.state_dict(), found, packed, origin)
        model.load_state_dict(found.tensors(), strict=False)  # packed ones come with quantizers
        if quantization is not None:
            apply_entry(model, quantization, source)
    return Checkpoint(
        path=source,
        name=official or source.stem,
        model=model,
        config=full,
        sha256=file_digest(weights),
        quantization=quantization,
    )


def read_tensors(path: str | os.PathLike[str]) -> tuple[StateDict, bool]:
    """Return the tensors of a checkpoint, and whether it is quantized; no model is built.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    found = read_checkpoint(path)
    with contradictions(found.path, "it cannot be loaded", raises=CheckpointError, advice=AGAIN):
        return found.tensors(), found.extra.get("quantization") is not None


def save_checkpoint(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, torch.Tensor],
    *,
    config: Mapping[str, Any] | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint in the official format; only the entries that are given.

    Raises:
        InputError: the file cannot be written; an older file stays as it was.
    """
    content: dict[str, Any] = {"model": dict(state_dict)}
    if config is not None:
        content["config"] = dict(config)
    if quantization is not None:
        content["quantization"] = dict(quantization)
    save_atomically(content, path)


def save_atomically(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain values with ``torch.save``, whole or not at all.

    Raises:
        InputError: the file cannot be written; an older file stays as it was.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            # Through a stream of Python, because torch's own writer of files loses the reason.
            torch.save(content, stream)
        except RuntimeError as error:
            reason = error.__context__
            raise reason if isinstance(reason, OSError) else OSError(str(error)) from error


def _choose_config(
    given: str | os.PathLike[str] | Mapping[str, Any] | None, found: Reading, official: str | None
) -> tuple[dict[str, Any], str]:
    """Return the configuration, and where it is from; the latter is empty for an official one."""
    if isinstance(given, Mapping):
        return checked_config(dict(given), "given"), "given"
    if given is not None:
        return read_config(given), f"of {os.fspath(given)}"
    if "config" in found.extra:
        return checked_config(found.extra["config"], f"inside {found.path}"), "inside it"
    if found.is_transformers and found.location.config is not None:
        return read_transformers_config(found.location.config), CONFIG
    if official is not None:
        return official_config(official), ""
    raise CheckpointError(no_architecture(found))
