"""Which files a checkpoint is: a file, a folder of transformers, or a name on the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from .contradictions import shown
from .hub import CONFIG, WEIGHTS, checkpoint_from_hub, hub_name

_BINARY = "pytorch_model.bin"
_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")


@dataclass(frozen=True)
class Location:
    """Where the parts of a checkpoint are.

    Attributes:
        path: what the user gave, for messages; for a name on the hub, the file.
        weights: the file of the tensors.
        config: the ``config.json`` beside it, if there is one; transformers' layout has it.
    """

    path: Path
    weights: Path
    config: Path | None


def find_checkpoint(path: str | os.PathLike[str]) -> Location:
    """Return the files of a checkpoint; a name on the hub is looked up there.

    Raises:
        CheckpointError: there are none, or they cannot be read.
        MissingDependencyError: it is a name on the hub, and ``huggingface_hub`` is not installed.
    """
    given = Path(path)
    name = hub_name(path)
    if name is not None:
        given = checkpoint_from_hub(name)
    weights = _in_folder(given) if given.is_dir() else given
    if not weights.exists():
        raise CheckpointError(f"there is no checkpoint {given}; check the path")
    try:
        weights.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {weights}: {error.strerror or error}") from error
    config = weights.with_name(CONFIG)
    return Location(given, weights, config if config.is_file() else None)


def is_checkpoint(path: Path) -> bool:
    """Return whether a path says to be a checkpoint: by its suffix, as a folder, or as a name."""
    if path.is_dir():
        return any((path / name).is_file() for name in (WEIGHTS, _BINARY))
    return path.suffix in _SUFFIXES or hub_name(path) is not None


def _in_folder(folder: Path) -> Path:
    """Return the one file of weights in a folder."""
    for name in (WEIGHTS, _BINARY):
        if (folder / name).is_file():
            return folder / name
    _refuse_parts(folder)
    found = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(shown(file.name)[1:-1] for file in found[:3])
        raise CheckpointError(
            f"{folder} is a folder with {len(found)} checkpoints ({named}); give one of the files"
        )
    raise CheckpointError(
        f"{folder} is a folder without weights; expected {WEIGHTS} in it, as transformers saves "
        "it, or a checkpoint file such as model.pt"
    )


def _refuse_parts(folder: Path) -> None:
    for name in (WEIGHTS, _BINARY):
        if (folder / f"{name}.index.json").exists():
            raise CheckpointError(
                f"the weights in {folder} are in several files; save the model again in one, with "
                "save_pretrained(..., max_shard_size='10GB')"
            )
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds an adapter (LoRA), which is no model of its own; merge it into its "
            "base model with merge_and_unload() and save that"
        )
