"""Training a model from a recipe, from files to a file: float models and quantized ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .._common.files import check_output
from ..data.generated.config import GeneratedClipsConfig
from ..data.sample import VideoSequence
from ..errors import InputError
from ..quant.checkpoints.architecture import build_model, effective_config, read_config
from ..quant.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .distributed import World, joined_world
from .inputs.sources import GENERATED, VIDEOS, clip_sources, recipe_settings
from .model.qat import describe_quantization, load_quantized, load_teacher, save_quantized
from .recipe import Recipe
from .run.curves import draw_curves
from .run.log import TrainingLog, log_beside, read_log
from .run.loop import TrainingRun
from .run.validate import ClipValidation, Validations, generated_validation, whole_clip


@dataclass(frozen=True)
class TrainJob:
    """A run: what to train, on what, and where the result goes.

    Attributes:
        recipe: of `read_recipe`.
        output: the trained checkpoint; beside it appear ``.state`` (to resume), ``.log.jsonl`` and
            ``.curves.png``.
        init: a float checkpoint to start from; the default is a random start with the recipe's
            model.
        quantized: a quantized checkpoint to train instead; the result is one too.
        teacher: the float checkpoint that a quantized model also learns from, or None.
        sequences: annotated videos and images to train on.
        unlabelled: videos without labels to train on, which needs a teacher.
        validation: annotated videos to score while training; never trained on.
        score: score the model on generated clips and ``validation`` at the end of each stage.
        resume: go on from the state on disk.
        device: such as ``cpu`` or ``cuda``; the default is a GPU where there is one.
        half: store weights in half precision; of a float model.
        quiet: print nothing.
    """

    recipe: Recipe
    output: Path
    init: Path | None = None
    quantized: Path | None = None
    teacher: Path | None = None
    sequences: Sequence[VideoSequence] = ()
    unlabelled: Sequence[VideoSequence] = ()
    validation: Sequence[VideoSequence] = field(default=())
    score: bool = True
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
        TrainingError: the loss is no longer finite, or the gradients for many steps; the last good
            state is on disk.
    """
    _check_quantized(job)
    with joined_world(job.device) as world:
        world.from_first(lambda: _check_files(job))
        start = _start(job)
        run = _run(job, world, start)
        if job.resume:
            run.resume()
        elif world.is_first:
            run.log.start_anew()
        average = run.train()
        if not world.is_first:
            return None
        _write(job, average, start)
    return job.output


@dataclass(frozen=True)
class _Start:
    """A model to train, its configuration, and the quantized checkpoint that it is from, if any."""

    sam2: Any
    config: Mapping[str, Any]
    train: TrainConfig
    quantized: Checkpoint | None = None
    teacher: Checkpoint | None = None


def _check_quantized(job: TrainJob) -> None:
    """Refuse what does not go with a quantized model, or only goes with one."""
    recipe = job.recipe
    if job.quantized is None:
        if job.teacher is not None:
            raise InputError(
                "a teacher is for a quantized checkpoint; float training has none to follow"
            )
        return
    if recipe.model is not None or recipe.train.from_scratch:
        raise InputError(
            f"the recipe {recipe.path} builds a model ('model', 'from_scratch'), but "
            f"{job.quantized} holds the one to train; leave these keys out"
        )
    if job.half:
        raise InputError(
            "half precision is chosen when a model is quantized; run qsam2-calibrate with --half"
        )
    if job.teacher is not None and not recipe.train.distils:
        raise InputError(
            f"the recipe {recipe.path} has no stage that follows a teacher; set 'distill' in one, "
            "or leave the teacher out"
        )


def sized_recipe(job: TrainJob) -> Recipe:
    """Return the recipe of ``job`` with an image size in each stage.

    Raises:
        InputError: the model, whose size is wanted, cannot be loaded.
    """
    if all(stage.image_size for stage in job.recipe.train.stages):
        return job.recipe
    return replace(job.recipe, train=_start(job).train)


def _start(job: TrainJob) -> _Start:
    train = job.recipe.train
    size = train.stages[-1].image_size or None
    if job.quantized is not None:
        found = load_quantized(job.quantized, size)
        teacher = None if job.teacher is None else load_teacher(job.teacher, found)
        sized = train.sized(int(found.model.image_size))
        return _Start(found.model, found.config, sized, found, teacher)
    sam2, config = _float_start(job, size)
    return _Start(sam2, config, train.sized(int(sam2.image_size)))


def _float_start(job: TrainJob, size: int | None) -> tuple[Any, Mapping[str, Any]]:
    if job.init is not None:
        checkpoint = load_checkpoint(job.init, config=job.recipe.model, image_size=size)
        if checkpoint.quantization is not None:
            raise InputError(
                f"{job.init} is quantized; float training starts from a float checkpoint, and "
                "quantized ones are trained without a recipe before them"
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


def _run(job: TrainJob, world: World, start: _Start) -> TrainingRun:
    train = start.train
    size = train.stages[-1].image_size
    settings = recipe_settings(job.recipe)
    return TrainingRun(
        config=train,
        sam2=start.sam2,
        inputs=_inputs(job, start),
        sources=clip_sources(settings, job.sequences, job.unlabelled),
        world=world,
        state_path=_beside(job.output, ".state"),
        log=TrainingLog(log_beside(job.output), every=train.log_every, quiet=job.quiet),
        validate=_validations(job, settings.generated, size) if job.score else None,
        teacher=None if start.teacher is None else start.teacher.model,
    )


def _inputs(job: TrainJob, start: _Start) -> dict[str, Any]:
    """Return what must be the same when the run is resumed, beside the recipe."""
    inputs: dict[str, Any] = {
        "model": start.config,
        "data": job.recipe.data,
        "sequences": [sequence.name for sequence in job.sequences],
    }
    if start.quantized is not None:
        inputs["quantized"] = [start.quantized.sha256, describe_quantization(start.sam2)]
        inputs["teacher"] = None if start.teacher is None else start.teacher.sha256
        inputs["unlabelled"] = [sequence.name for sequence in job.unlabelled]
    return inputs


def _validations(job: TrainJob, generated: GeneratedClipsConfig, size: int) -> Validations:
    found = {GENERATED: generated_validation(generated, size)}
    if job.validation:
        found[VIDEOS] = ClipValidation([whole_clip(s, size) for s in job.validation])
    return Validations(found)


def _check_files(job: TrainJob) -> None:
    """Refuse what the run could not write, or what it would write over."""
    check_output(job.output)
    state = _beside(job.output, ".state")
    if state.exists() and not job.resume:
        raise InputError(
            f"{state} holds the state of an earlier run; pass --resume to go on with it, or "
            "delete it to start anew"
        )


def _write(job: TrainJob, average: Any, start: _Start) -> None:
    if start.quantized is not None:
        save_quantized(job.output, average, start.quantized, _training_record(job, start))
    else:
        state = {name: tensor.cpu() for name, tensor in average.state_dict().items()}
        if job.half:
            state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        save_checkpoint(job.output, state, config=start.config)
    draw_curves(read_log(log_beside(job.output)), _beside(job.output, ".curves.png"))


def _training_record(job: TrainJob, start: _Start) -> dict[str, Any]:
    assert start.quantized is not None
    return {
        "recipe": job.recipe.path.name,
        "steps": start.train.total_steps,
        "seed": start.train.seed,
        "start_sha256": start.quantized.sha256,
        "teacher_sha256": "" if start.teacher is None else start.teacher.sha256,
    }


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.stem + ending)
