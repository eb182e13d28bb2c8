"""The state of a run on disk: all that it needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..._common.contradictions import contradictions, shown
from ...errors import CheckpointError
from ...quant.checkpoints.checkpoint import save_atomically
from ...quant.checkpoints.plain_file import load_plain
from ..config import TrainConfig
from ..distributed import World

_FORMAT = 1
_CONTENT = ("model", "average", "optimizer", "step", "seconds", "digest")


def run_digest(config: TrainConfig, inputs: Any) -> str:
    """Return a digest of what must not change between a run and its continuation."""
    fixed = asdict(config)
    for name in ("log_every", "save_every", "validate_every", "workers"):
        del fixed[name]
    # Options that came later count only where they are used: a run from before still resumes.
    _leave_out_defaults(fixed, config, ("quantizers", "skip_missing_data"))
    if "quantizers" in fixed:
        _leave_out_defaults(fixed["quantizers"], config.quantizers, ("penalty",))
    for values, stage in zip(fixed["stages"], config.stages, strict=True):
        _leave_out_defaults(values, stage, ("distill", "images", "hidden", "least_steps"))
    text = json.dumps({"train": fixed, "inputs": inputs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _leave_out_defaults(values: dict[str, Any], config: Any, names: Sequence[str]) -> None:
    for item in fields(config):
        if item.name in names:
            made = item.default_factory
            if getattr(config, item.name) == (item.default if made is MISSING else made()):
                del values[item.name]


@dataclass
class TrainingState:
    """What changes while training.

    Attributes:
        model: the model being trained, auxiliary head included.
        average: the averaged SAM2 model.
        optimizer: with its moments.
        step: optimiser steps done.
        digest: of the recipe and the architecture; see `run_digest`.
        seconds: time spent training.
    """

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    digest: str
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the state; the earlier file stays as it was if that fails.

        Raises:
            InputError: the file cannot be written.
        """
        content = {
            "format": _FORMAT,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "digest": self.digest,
        }
        save_atomically(content, path)

    def load(self, path: Path, world: World | None = None) -> None:
        """Go on from the state in ``path``.

        Args:
            path: the file; of several processes the first one alone reads it.
            world: the processes; None for a single one.

        Raises:
            CheckpointError: the file is missing, damaged, or belongs to another recipe or
                architecture.
        """
        content = _read(path) if world is None else world.from_first(lambda: _read(path))
        if content["digest"] != self.digest:
            raise CheckpointError(
                f"{path} belongs to a run with another recipe, seed, architecture or data, or with "
                "other bits; resume with the same ones, or choose another output to start anew"
            )
        with contradictions(
            path, "it does not fit the model", raises=CheckpointError, advice="start anew"
        ):
            self.model.load_state_dict(content["model"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.step, self.seconds = int(content["step"]), float(content["seconds"])


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"there is no training state {path} to resume; run without --resume")
    try:
        content = load_plain(path)
        version, values = content["format"], {name: content.get(name) for name in _CONTENT}
    except Exception as error:  # what a file that is none raises depends on where it is read
        raise _damaged(path) from error
    if not isinstance(version, int) or version != _FORMAT:
        raise CheckpointError(
            f"the training state {path} has format {shown(version)}, but this version "
            f"reads format {_FORMAT}; resume with the version that wrote it"
        )
    if any(v is None for v in values.values()) or not isinstance(values["digest"], str):
        raise _damaged(path)
    return values


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or not a training state; start anew without --resume"
    )
