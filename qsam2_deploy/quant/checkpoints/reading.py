"""A checkpoint of any kind as tensors under their official names; no model is built.

Shapes come first: tensors of safetensors are read when they are asked for, which is after their
shapes were compared with the architecture.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..._common.checkpoint_files import Location, find_checkpoint
from ..._common.contradictions import contradictions
from ...errors import CheckpointError, MissingDependencyError
from . import safetensors_file
from .families import refuse_others
from .plain_file import load_plain
from .tensor_names import bare_names
from .transformers_names import is_transformers, official_state
from .wrapping import some, unwrap

if TYPE_CHECKING:
    import os

StateDict = dict[str, torch.Tensor]

AGAIN = "download or copy it again, or give another file"
"""What to do about a damaged file."""


@dataclass(frozen=True)
class Reading:
    """What a checkpoint holds.

    Attributes:
        location: its files.
        shapes: tensors by their official names, perhaps on the device ``meta``.
        extra: the other entries of the file, such as ``config`` and ``quantization``.
        layout: whose names the tensors have in the file, for messages.
        is_transformers: whether they are those of transformers.
        load: reads the tensors themselves.
    """

    location: Location
    shapes: StateDict
    extra: Mapping[str, Any]
    layout: str
    is_transformers: bool
    load: Callable[[], StateDict]

    @property
    def path(self) -> Path:
        """What the user gave, for messages."""
        return self.location.path

    def tensors(self) -> StateDict:
        """Return the tensors, floating-point ones in float32.

        Raises:
            CheckpointError: one holds numbers that are not finite.
        """
        return {key: _as_float32(key, value, self.path) for key, value in self.load().items()}


def read_checkpoint(path: str | os.PathLike[str]) -> Reading:
    """Read a checkpoint in any of the layouts of ``docs/formats.md``.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
        MissingDependencyError: ``safetensors`` or ``huggingface_hub`` is needed and missing.
    """
    location = find_checkpoint(path)
    if safetensors_file.is_safetensors(location.weights):
        return _read_safetensors(location)
    content = _unpickle(location.weights)
    state, entry = unwrap(content, location.path)
    extra = {} if not entry else {k: v for k, v in content.items() if k != entry}
    with _consistent(location):
        named, layout, theirs = _renamed(state, location.path)
    # Only files like the official ones are ours; a "config" of other trainers is none of sam2.
    extra = extra if entry == "model" else {}
    return Reading(location, named, extra, layout, theirs, lambda: named)


def _read_safetensors(location: Location) -> Reading:
    path = location.weights
    try:
        shapes = safetensors_file.read_shapes(path)
    except MissingDependencyError:
        raise
    # What a file that is none raises depends on where it goes wrong.
    except Exception as error:
        raise CheckpointError(
            f"{path} is truncated or not a file of safetensors; {AGAIN}"
        ) from error
    if not shapes:
        raise CheckpointError(f"{path} holds no tensors; {AGAIN}")
    with _consistent(location):
        named, layout, theirs = _renamed(shapes, location.path)

    def load() -> StateDict:
        return _renamed(safetensors_file.read_tensors(path), location.path)[0]

    return Reading(location, named, {}, layout, theirs, load)


def _consistent(location: Location) -> Any:
    return contradictions(
        location.path, "it cannot be loaded", raises=CheckpointError, advice=AGAIN
    )


def _renamed(state: Mapping[str, torch.Tensor], path: Path) -> tuple[StateDict, str, bool]:
    """Return tensors under official names, whose names they had, and if that is transformers."""
    refuse_others(state.keys(), path)
    names, before = bare_names(state.keys(), path)
    bare = {names[name]: tensor for name, tensor in state.items()}
    theirs = is_transformers(bare)
    layout = "in the names of transformers" if theirs else "in upstream's names"
    if before:
        layout += f" behind {some([before])}"
    return official_state(bare, path) if theirs else bare, layout, theirs


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
    return f"{path} is truncated or not a PyTorch checkpoint; {AGAIN}"


def _as_float32(name: str, tensor: torch.Tensor, path: Path) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(
            f"the tensor {some([name])} of {path} holds numbers that are not finite; the "
            "checkpoint is damaged or its training diverged"
        )
    return tensor.to(torch.float32)
