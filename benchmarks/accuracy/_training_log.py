"""What the log of a training run says about its time and its scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.config import Stage
from qsam2_deploy.training.recipe import read_recipe
from qsam2_deploy.training.run.log import read_log

Line = dict[str, Any]


def training_summary(log: Path, recipe: Path) -> dict[str, Any]:
    """Return steps, seconds and frames per second of each stage, and the curve of the scores.

    Times are those of training alone: start and validation are not in the log's seconds, but for
    validations within a stage.

    Raises:
        InputError: a file cannot be read, or the log is of another recipe.
    """
    lines = read_log(log)
    steps = [line for line in lines if "losses" in line]
    if not steps:
        raise InputError(f"the log {log} has no steps; give the .log.jsonl of a training run")
    stages = {stage.name: stage for stage in read_recipe(recipe).train.stages}
    unknown = [line["stage"] for line in steps if line["stage"] not in stages]
    if unknown:
        raise InputError(
            f"the recipe {recipe} has no stage {unknown[0]!r}, which the log {log} names; give "
            "the recipe that the model was trained with"
        )
    return {
        "recipe": recipe.name,
        "steps": steps[-1]["step"],
        "minutes": round(steps[-1]["seconds"] / 60, 2),
        "stages": _stages(steps, stages),
        "curve": [_scored(line) for line in lines if "scores" in line],
    }


def _stages(lines: Sequence[Line], stages: dict[str, Stage]) -> list[dict[str, Any]]:
    rows, step, seconds = [], 0, 0.0
    for name, group in itertools.groupby(lines, key=lambda line: str(line["stage"])):
        last, stage = list(group)[-1], stages[name]
        taken, count = last["seconds"] - seconds, last["step"] - step
        images = stage.clips * stage.frames
        rows.append(
            {
                "stage": name,
                "image_size": stage.image_size,
                "clips": stage.clips,
                "frames": stage.frames,
                "steps": count,
                "minutes": round(taken / 60, 2),
                "seconds_per_step": round(taken / count, 4),
                "images_per_second": round(images * count / taken, 2) if taken else None,
            }
        )
        step, seconds = last["step"], last["seconds"]
    return rows


def _scored(line: Line) -> dict[str, Any]:
    minutes = round(line["seconds"] / 60, 2)
    return {
        "step": line["step"],
        "stage": line["stage"],
        "minutes": minutes,
        "scores": line["scores"],
    }
