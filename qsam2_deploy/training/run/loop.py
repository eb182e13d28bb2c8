"""The training loop."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...data.sample import ClipSource
from ...errors import TrainingError
from ..config import Stage, TrainConfig
from ..distributed import World
from ..inputs.batch import ClipBatch
from ..inputs.loader import StageClips, batches
from ..inputs.prompts import PromptPlan, draw_plan
from ..model.clip_model import ClipModel, ClipPrediction, set_image_size
from ..model.distill import Teacher, check_has_loss, distillation_losses
from ..model.gradients import clip_gradients
from ..model.losses import Losses, clip_losses
from ..model.quantizers import QuantizerTrainer
from .log import TrainingLog
from .schedule import learning_rate, parameter_groups, set_learning_rate, update_average
from .start import set_object_bias, start_from_scratch
from .state import TrainingState, run_digest

Validate = Callable[[Any], Mapping[str, float]]
"""Scores of the averaged SAM2 model, in percent."""

_ADAM_BETAS = (0.9, 0.98)

_MOST_SKIPPED = 10
"""Steps in a row that may be skipped for their gradients before the run is given up."""


@dataclass
class TrainingRun:
    """Everything that a run needs.

    Attributes:
        config: the recipe.
        sam2: the model to train, of the ``sam2`` package, with or without quantized layers; trained
            in place.
        inputs: what else must stay the same when the run is resumed, such as the configuration of
            the model and the names of the data; plain values.
        sources: clips by the names that the recipe uses.
        world: the processes of the run.
        state_path: where the training state is kept.
        log: of losses and scores.
        validate: scores a model, or None.
        teacher: a float model of the ``sam2`` package to distil from, or None.
    """

    config: TrainConfig
    sam2: Any
    inputs: Mapping[str, Any]
    sources: Mapping[str, ClipSource]
    world: World
    state_path: Path
    log: TrainingLog
    validate: Validate | None = None
    teacher: Any = None

    def __post_init__(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        if config.from_scratch:
            start_from_scratch(self.sam2)
        affinity = any(stage.losses.affinity > 0 for stage in config.stages)
        self.model = ClipModel(
            self.sam2.requires_grad_(True),
            affinity=affinity,
            checkpoint_activations=config.checkpoint_activations,
        ).to(self.world.device)
        self.average = copy.deepcopy(self.sam2).eval().requires_grad_(False)
        self.quantizers = QuantizerTrainer(
            self.sam2, config.quantizers, config.total_steps, self.world
        )
        self._teacher = None if self.teacher is None else Teacher(self.teacher, self.world.device)
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay, config.quantizers.rate),
            lr=1e-4,
            betas=_ADAM_BETAS,
            fused=True,
        )
        digest = run_digest(config, self.inputs)
        self.state = TrainingState(self.model, self.average, optimizer, digest)
        self._skipped = 0  # steps in a row, up to the present one
        self._wrapped: nn.Module = self.model
        if self.world.size > 1:
            # An image step uses no memory, a mask prompt no point embedding.
            self._wrapped = wrapped = DistributedDataParallel(
                self.model, find_unused_parameters=True
            )
            # They are the same everywhere, and weights are quantized with them before forward
            # begins. (The argument of this name is deprecated since PyTorch 2.13.)
            wrapped.broadcast_buffers = False

    def resume(self) -> None:
        """Go on from the state on disk.

        Raises:
            CheckpointError: there is none, or it belongs to another run.
        """
        self.state.load(self.state_path, self.world)
        self.quantizers.set_widths(self.state.step)
        self.quantizers.copy_widths_to(self.average)
        if self.world.is_first:
            self.log.truncate(self.state.step)

    def train(self) -> Any:
        """Train to the end of the recipe and return the averaged model.

        Raises:
            TrainingError: the loss is no longer finite, or the gradients for many steps; the last
                good state is on disk.
            InputError: a stage lacks its data or cannot be shared out, or a file cannot be written.
        """
        for index, stage in enumerate(self.config.stages):
            # Refuses a later stage before an earlier one takes hours.
            check_has_loss(stage, self._clips(index).names, has_teacher=self._teacher is not None)
        done = 0
        for index, stage in enumerate(self.config.stages):
            if self.state.step < done + stage.steps:
                self._train_stage(index, stage, self.state.step - done)
            done += stage.steps
        return self.average

    def _train_stage(self, index: int, stage: Stage, first_step: int) -> None:
        self._set_image_size(stage.image_size)
        if first_step == 0 and stage.object_bias is not None:
            for model in (self.sam2, self.average):
                set_object_bias(model, stage.object_bias)
        loader = batches(self._clips(index, first_step), workers=self.config.workers)
        started = time.perf_counter() - self.state.seconds
        for step, on_host in enumerate(loader, first_step):
            batch = on_host.to(self.world.device)
            if self.state.step == 0 and self.quantizers.starts_higher:
                self._start_at_higher_widths(stage, batch)
            rate = learning_rate(stage, step, self.config.warmup_steps)
            losses = self._step(stage, batch)
            notes = self._update(rate) + self._end_step(batch)
            self.state.step += 1
            self.state.seconds = time.perf_counter() - started
            self._after_step(stage, losses, rate, notes, last=step + 1 == stage.steps)

    def _clips(self, index: int, first_step: int = 0) -> StageClips:
        return StageClips(
            self.sources,
            self.config,
            index,
            first_step=first_step,
            rank=self.world.rank,
            world_size=self.world.size,
        )

    def _set_image_size(self, size: int) -> None:
        for model in (self.sam2, self.average):
            set_image_size(model, size)

    def _plan(self, stage: Stage, batch: ClipBatch) -> PromptPlan:
        """Return the prompts of the present step, and seed what is drawn at random in it."""
        rng = np.random.default_rng((self.config.seed, self.state.step))
        plan = draw_plan(stage.prompts, batch.frame_count, rng)
        torch.manual_seed(int(rng.integers(2**31)) + self.world.rank)
        return plan

    def _step(self, stage: Stage, batch: ClipBatch) -> Losses:
        """Compute the gradients of one step and return its losses."""
        plan = self._plan(stage, batch)
        self.quantizers.share_batch(len(batch.images), batch.clip_of.numel())
        self._wrapped.train()
        with self.quantizers.training():
            with self._autocast(), self.quantizers.forward(self.state.step, len(batch.images)):
                predicted = self._wrapped(batch, plan, stage.losses.affinity > 0)
            losses = self._losses(stage, batch, plan, predicted)
            total = torch.stack(list(losses.values())).sum()
            self._require_finite(total, losses, batch, predicted)
            total.backward()  # type: ignore[no-untyped-call]
        self.quantizers.add_penalty()
        return {name: value.detach() for name, value in losses.items()} | {"total": total.detach()}

    def _losses(
        self, stage: Stage, batch: ClipBatch, plan: PromptPlan, predicted: ClipPrediction
    ) -> Losses:
        """Return the weighted losses per object and frame."""
        object_count = self.world.mean(float(batch.clip_of.numel()))
        losses: Losses = {}
        if stage.uses_labels:
            losses |= clip_losses(
                predicted.frames,
                batch.masks,
                object_count=object_count,
                weights=stage.losses,
                mask_loss=stage.mask_loss,
                labelled=batch.labelled,
            )
        if self._teacher is not None and stage.distill.any:
            with self._autocast():
                wanted = self._teacher(batch, plan, predicted.frames)
            losses |= distillation_losses(
                predicted,
                wanted,
                object_count=object_count,
                clip_count=self.world.mean(float(batch.clip_count)),
                weights=stage.distill,
            )
        losses = {name: value / batch.frame_count for name, value in losses.items()}
        if predicted.affinity is not None:
            losses["affinity"] = stage.losses.affinity * predicted.affinity
        return losses

    def _update(self, rate: float) -> list[str]:
        """Let the optimizer step, if all gradients are finite; return what the user should know."""
        optimizer = self.state.optimizer
        set_learning_rate(optimizer, rate)
        bad = clip_gradients(self.model, self.config.gradient_clip)
        if not bad:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._skipped = self._skipped + 1 if bad else 0
        if not bad:
            return []
        what = f"the gradient of {bad[0]} (parameters: {len(bad)}) is not finite"
        if self._skipped == _MOST_SKIPPED:
            raise TrainingError(
                f"{what}, in {_MOST_SKIPPED} steps in a row; {self._kept()}; start anew with a "
                "lower learning rate"
            )
        return [f"{what}; this step was skipped"]

    def _start_at_higher_widths(self, stage: Stage, batch: ClipBatch) -> None:
        """Start the quantizers, at the widths of the first step, from the run's first batch."""
        plan = self._plan(stage, batch)
        with torch.no_grad(), self._autocast(), self.quantizers.calibration(len(batch.images)):
            self.model.eval()(batch, plan)
        self.quantizers.copy_to(self.average)

    def _end_step(self, batch: ClipBatch) -> list[str]:
        """Update statistics and the average; return what the user should know."""
        step = self.state.step
        notes = self.quantizers.end_step(step, batch.names)
        update_average(self.average, self.sam2, step, self.config.ema)
        if self.quantizers.lowers_after(step):
            self.quantizers.copy_to(self.average)
        return notes

    def _require_finite(
        self, total: torch.Tensor, losses: Losses, batch: ClipBatch, predicted: ClipPrediction
    ) -> None:
        if self.world.mean(float(total.isfinite())) == 1:
            return
        bad = ", ".join(name for name, value in losses.items() if not bool(value.isfinite()))
        raise TrainingError(
            f"the loss ({bad or 'of another process'}) is not finite at step {self.state.step}; "
            f"{self._kept()}; check the data ({_suspects(batch, predicted)}), or start anew with "
            "a lower learning rate"
        )

    def _kept(self) -> str:
        if self.state_path.exists():
            return f"the last good state is in {self.state_path}"
        return "no state was saved yet"

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def _after_step(
        self, stage: Stage, losses: Losses, rate: float, notes: Sequence[str], *, last: bool
    ) -> None:
        if not self.world.is_first:
            return
        config, step = self.config, self.state.step
        values = {name: float(value) for name, value in losses.items()}
        self.log.add_step(step, stage.name, self.state.seconds, rate, values, last=last)
        for note in notes:
            self.log.add_note(step, stage.name, self.state.seconds, note)
        if self.validate is not None and (
            last or (config.validate_every and step % config.validate_every == 0)
        ):
            self.log.add_scores(step, stage.name, self.state.seconds, self._scores())
        # While steps are skipped the state of before is kept, in case that it is the last good one.
        if last or (step % config.save_every == 0 and not self._skipped):
            self.log.begin()
            self.state.save(self.state_path)

    def _scores(self) -> Mapping[str, float]:
        """Validate; what that draws at random must not change the training."""
        assert self.validate is not None
        with torch.random.fork_rng(devices=[]):
            return self.validate(self.average)


def _suspects(batch: ClipBatch, predicted: ClipPrediction) -> str:
    """Return which frame has features that are not finite, else all clips of the batch."""
    for level in predicted.features:
        bad = torch.nonzero(~level.detach().flatten(1).isfinite().all(1)).flatten().tolist()
        if bad and batch.names:
            frame, clip = divmod(bad[0], batch.clip_count)
            return f"the features of frame {frame} of {batch.names[clip]} are not finite"
    return f"this step's clips are {', '.join(batch.names)}"
