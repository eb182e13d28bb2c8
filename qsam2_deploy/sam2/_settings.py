"""What ``qsam2-run`` was asked for, for every model that the script builds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Return the model that stands for a checkpoint, or the checkpoint itself."""
    return ckpt_path if CURRENT.model is None else CURRENT.model


def engine_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ours among what a script passed, with those of the command."""
    taken = {name: value for name, value in given.items() if name in _OURS}
    return {**taken, **(CURRENT.engine or {})}


def output_kind() -> str:
    """Return what the results of predictors of videos are."""
    return CURRENT.output
