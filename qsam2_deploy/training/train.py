"""Training a model from a recipe, from files to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .._files import check_output
from ..data.sample import VideoSequence
from ..errors import InputError
from ..quant.architecture import build_model, effective_config, read_config
from ..quant.checkpoint import load_checkpoint, save_checkpoint
from .curves import draw_curves
from .distributed import World, joined_world
from .log import TrainingLog, read_log
from .loop import TrainingRun
from .recipe import Recipe
from .sources import GENERATED, VIDEOS, clip_sources, recipe_settings
from .validate import ClipValidation, Validations, generated_validation, whole_clip


@dataclass(frozen=True)
class TrainJob:
    """A run: what to train, on what, and where the result goes.

    Attributes:
        recipe: of `read_recipe`.
        output: the trained checkpoint; beside it appear ``.state`` (to resume), ``.log.jsonl`` and
            ``.curves.png``.
        init: a checkpoint to start from; the default is a random start with the recipe's model.
        sequences: annotated videos and images to train on.
        validation: annotated videos to score while training; never trained on.
        resume: go on from the state on disk.
        device: such as ``cpu`` or ``cuda``; the default is a GPU where there is one.
        half: store weights in half precision.
        quiet: print nothing.
    """

    recipe: Recipe
    output: Path
    init: Path | None = None
    sequences: Sequence[VideoSequence] = ()
    validation: Sequence[VideoSequence] = field(default=())
    resume: bool = False
    device: str | None = None
    half: bool = False
    quiet: bool = False


def train_model(job: TrainJob) -> Path | None:
    """Run ``job``, in every process of it.

    Returns:
        The path of the checkpoint; in the other processes, which write nothing, None.

    Raises:
        InputError: the recipe, the data or a file cannot be used.
        TrainingError: the loss is no longer finite; the last good state is on disk.
    """
    check_output(job.output)
    if not job.resume:
        _refuse_earlier_run(job)
    with joined_world(job.device) as world:
        sam2, config = _start(job)
        run = _run(job, world, sam2, config)
        if job.resume:
            run.resume()
        elif world.is_first:
            run.log.path.unlink(missing_ok=True)
        average = run.train()
        if not world.is_first:
            return None
        _write(job, average, config)
    return job.output


def _start(job: TrainJob) -> tuple[Any, Mapping[str, Any]]:
    size = job.recipe.train.stages[-1].image_size
    if job.init is not None:
        checkpoint = load_checkpoint(job.init, config=job.recipe.model, image_size=size)
        if checkpoint.quantization is not None:
            raise InputError(
                f"{job.init} is quantized; float training starts from a float checkpoint"
            )
        return checkpoint.model, checkpoint.config
    if job.recipe.model is None:
        raise InputError(
            f"the recipe {job.recipe.path} names no 'model' to build; add it, or give a "
            "checkpoint with --init"
        )
    config = effective_config(read_config(job.recipe.model), size)
    torch.manual_seed(job.recipe.train.seed)
    return build_model(config), config


def _run(job: TrainJob, world: World, sam2: Any, config: Mapping[str, Any]) -> TrainingRun:
    train = job.recipe.train
    size = train.stages[-1].image_size
    settings = recipe_settings(job.recipe)
    validations = {GENERATED: generated_validation(settings.generated, size)}
    if job.validation:
        validations[VIDEOS] = ClipValidation([whole_clip(s, size) for s in job.validation])
    return TrainingRun(
        config=train,
        sam2=sam2,
        inputs={
            "model": config,
            "data": job.recipe.data,
            "sequences": [sequence.name for sequence in job.sequences],
        },
        sources=clip_sources(settings, job.sequences),
        world=world,
        state_path=_beside(job.output, ".state"),
        log=TrainingLog(_beside(job.output, ".log.jsonl"), every=train.log_every, quiet=job.quiet),
        validate=Validations(validations),
    )


def _refuse_earlier_run(job: TrainJob) -> None:
    # In every process: were it the first one alone, the others would wait for it.
    state = _beside(job.output, ".state")
    if state.exists():
        raise InputError(
            f"{state} holds the state of an earlier run; pass --resume to go on with it, or "
            "delete it to start anew"
        )


def _write(job: TrainJob, average: Any, config: Mapping[str, Any]) -> None:
    state = average.state_dict()
    if job.half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_checkpoint(job.output, state, config=config)
    draw_curves(read_log(_beside(job.output, ".log.jsonl")), _beside(job.output, ".curves.png"))


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.stem + ending)
