"""What ``qsam2-run`` was asked for, for every model that the script builds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..predictors.pretrained import exported_model

_OURS = ("backend", "threads", "cache", "precision", "fill_hole_area", "non_overlap_masks",
         "clear_non_cond_mem_around_input", "add_all_frames_to_correct_as_cond",
         "memory_frames")  # fmt: skip
"""Arguments of our predictors; others that scripts pass are ignored, as upstream does."""


@dataclass
class Settings:
    """Choices for all models of a process.

    Attributes:
        model: the ``model.onnx`` that stands for every checkpoint; None: the one beside it.
        engine: arguments of :func:`.open_backend`.
        output: of the predictors of videos.
    """

    model: Path | None = None
    engine: dict[str, Any] | None = None
    output: str = "numpy"


CURRENT = Settings()


def model_for(ckpt_path: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """Return the model that stands for a checkpoint.

    It is that of the command, or the one beside the checkpoint, or the checkpoint's export, which
    is made once and kept.

    Raises:
        CheckpointError: the checkpoint cannot be exported.
        MissingDependencyError: a package is missing that exports it.
    """
    if CURRENT.model is not None or ckpt_path is None:
        return CURRENT.model
    path = Path(ckpt_path).expanduser()
    if path.with_suffix(".onnx").exists() or not path.exists():
        return path
    return exported_model(path)


def engine_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ours among what a script passed, with those of the command."""
    taken = {name: value for name, value in given.items() if name in _OURS}
    return {**taken, **(CURRENT.engine or {})}


def output_kind() -> str:
    """Return what the results of predictors of videos are."""
    return CURRENT.output
