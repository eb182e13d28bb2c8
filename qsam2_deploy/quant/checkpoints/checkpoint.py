"""Reading and writing checkpoints: official ones, and ours with a quantization entry.

The file is a ``torch.save`` of ``{"model": state_dict, "config": ..., "quantization": ...}``; the
last two are optional, and official files lack them. Nothing but tensors and plain values is ever
unpickled.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..._common.contradictions import contradictions, shown
from ..._common.files import atomic_path, file_digest
from ...errors import CheckpointError
from .architecture import (
    build_model,
    checked_config,
    effective_config,
    official_config,
    read_config,
    recognise_architecture,
)
from .plain_file import load_plain, memory_of_file

if TYPE_CHECKING:
    import os

    from sam2.sam2_video_predictor import SAM2VideoPredictor

StateDict = dict[str, torch.Tensor]

_SHOWN_KEYS = 3
_AGAIN = "download or copy it again, or give another file"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its model built and loaded.

    Attributes:
        path: the file.
        name: the official name of the architecture, else the file's stem.
        model: evaluation mode, float32, on the CPU; with quantized layers if the file has them.
        config: the configuration that ``model`` was built from, flags and image size included.
        sha256: digest of the file, 64 hexadecimal digits.
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

    The architecture comes from ``config`` if given, else from the file's own ``config`` entry,
    else from the names and shapes of its tensors.

    Args:
        path: the checkpoint file.
        config: a YAML file of a model configuration, or its content.
        image_size: replaces the configured image size, a multiple of 32.

    Raises:
        CheckpointError: the file or the configuration cannot be used; the message says why.
        MissingDependencyError: ``sam2`` is not installed.
    """
    source = Path(path)
    content = _read(source)
    with contradictions(source, "it cannot be loaded", raises=CheckpointError, advice=_AGAIN):
        state, quantization = _state_dict(content, source), content.get("quantization")
        packed = frozenset[str]()
        if quantization is not None:
            from .entry import apply_entry, packed_weight_names

            packed = packed_weight_names(quantization)
        official = recognise_architecture(state)
        chosen = _choose_config(config, content, official, source)
        full = effective_config(chosen, image_size)
        with memory_of_file(source.stat().st_size):
            model = build_model(full)
        _load_weights(model, state, source, packed)
        if quantization is not None:
            apply_entry(model, quantization, source)
    return Checkpoint(
        path=source,
        name=official or source.stem,
        model=model,
        config=full,
        sha256=file_digest(source),
        quantization=quantization,
    )


def read_tensors(path: str | os.PathLike[str]) -> tuple[StateDict, bool]:
    """Return the tensors of a checkpoint, and whether it is quantized; no model is built.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    source = Path(path)
    content = _read(source)
    return _state_dict(content, source), content.get("quantization") is not None


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


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a checkpoint file such as model.pt")
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}; check the path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    content = _unpickle(path)
    if not isinstance(content, dict) or "model" not in content:
        found = (
            f"the keys {_some(content)}" if isinstance(content, dict) else type(content).__name__
        )
        raise CheckpointError(
            f"the checkpoint {path} must be a dictionary with the entry 'model', but got {found}; "
            'save it in the official format {"model": state_dict}'
        )
    return content


def _unpickle(path: Path) -> Any:
    try:
        return load_plain(path)
    except pickle.UnpicklingError as error:
        if re.search(r"unsupported (global|class)", str(error), re.IGNORECASE):
            raise CheckpointError(
                f"the checkpoint {path} holds Python objects other than tensors and plain values, "
                "which could run code when loaded; save it again as {'model': state_dict}"
            ) from error
        raise CheckpointError(_damaged(path)) from error
    # What a file that is none raises depends on where it is read as what.
    except Exception as error:
        raise CheckpointError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path} is truncated or not a PyTorch checkpoint; {_AGAIN}"


def _state_dict(content: Mapping[str, Any], path: Path) -> StateDict:
    state = content["model"]
    plain = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    )
    if not plain or not state:
        raise CheckpointError(
            f"the entry 'model' of {path} is not a dictionary of named tensors; expected the "
            "model's state_dict()"
        )
    return {key: _as_float32(key, value, path) for key, value in state.items()}


def _as_float32(name: str, tensor: torch.Tensor, path: Path) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(
            f"the tensor {_some([name])} of {path} holds numbers that are not finite; the "
            "checkpoint is damaged or its training diverged"
        )
    return tensor.to(torch.float32)


def _choose_config(
    given: str | os.PathLike[str] | Mapping[str, Any] | None,
    content: Mapping[str, Any],
    official: str | None,
    path: Path,
) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return checked_config(dict(given), "given")
    if given is not None:
        return read_config(given)
    if "config" in content:
        return checked_config(content["config"], f"inside {path}")
    if official is not None:
        return official_config(official)
    raise CheckpointError(
        f"the architecture of {path} is not an official SAM2 size; pass --config FILE.yaml with "
        "its model configuration"
    )


def _load_weights(
    model: torch.nn.Module, state: StateDict, path: Path, packed: Collection[str]
) -> None:
    expected = model.state_dict()
    missing = [key for key in expected if key not in state and key not in packed]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        parts = [
            f"{len(keys)} tensors are {word} ({_some(keys)})"
            for word, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise CheckpointError(
            f"the checkpoint {path} does not fit its architecture: {' and '.join(parts)}; pass "
            "--config FILE.yaml with the configuration that it was trained with"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise CheckpointError(
                f"the tensor {_some([key])} of {path} must be of shape "
                f"{tuple(expected[key].shape)}, but got {tuple(tensor.shape)}; pass --config "
                "FILE.yaml with the configuration that it was trained with"
            )
    model.load_state_dict(state, strict=False)  # packed weights come with the quantizers


def _some(keys: Collection[Any]) -> str:
    named = ", ".join(shown(str(key))[1:-1] for key in list(keys)[:_SHOWN_KEYS])
    return f"{named}, ..." if len(keys) > _SHOWN_KEYS else named
