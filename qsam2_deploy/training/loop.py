"""The training loop."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.sample import ClipSource
from ..errors import TrainingError
from .batch import ClipBatch
from .clip_model import ClipModel, set_image_size
from .config import Stage, TrainConfig
from .distributed import World
from .loader import StageClips, batches
from .log import TrainingLog
from .losses import Losses, clip_losses
from .prompts import draw_plan
from .schedule import learning_rate, parameter_groups, update_average
from .start import set_object_bias, start_from_scratch
from .state import TrainingState, run_digest

Validate = Callable[[Any], Mapping[str, float]]
"""Scores of the averaged SAM2 model, in percent."""

_ADAM_BETAS = (0.9, 0.98)


@dataclass
class TrainingRun:
    """Everything that a run needs.

    Attributes:
        config: the recipe.
        sam2: the model to train, of the ``sam2`` package; trained in place.
        inputs: what else must stay the same when the run is resumed, such as the configuration of
            the model and the names of the data; plain values.
        sources: clips by the names that the recipe uses.
        world: the processes of the run.
        state_path: where the training state is kept.
        log: of losses and scores.
        validate: scores a model, or None.
    """

    config: TrainConfig
    sam2: Any
    inputs: Mapping[str, Any]
    sources: Mapping[str, ClipSource]
    world: World
    state_path: Path
    log: TrainingLog
    validate: Validate | None = None

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
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay),
            lr=1e-4,
            betas=_ADAM_BETAS,
            fused=True,
        )
        digest = run_digest(config, self.inputs)
        self.state = TrainingState(self.model, self.average, optimizer, digest)
        self._wrapped: nn.Module = self.model
        if self.world.size > 1:
            # An image step uses no memory, a mask prompt no point embedding.
            self._wrapped = DistributedDataParallel(self.model, find_unused_parameters=True)

    def resume(self) -> None:
        """Go on from the state on disk.

        Raises:
            CheckpointError: there is none, or it belongs to another run.
        """
        self.state.load(self.state_path)
        if self.world.is_first:
            self.log.truncate(self.state.step)

    def train(self) -> Any:
        """Train to the end of the recipe and return the averaged model.

        Raises:
            TrainingError: the loss is no longer finite; the last good state is on disk.
            InputError: a stage lacks its data or cannot be shared out, or a file cannot be written.
        """
        for index in range(len(self.config.stages)):
            self._clips(index)  # refuses a later stage before an earlier one takes hours
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
        for step, batch in enumerate(loader, first_step):
            rate = learning_rate(stage, step, self.config.warmup_steps)
            losses = self._step(stage, batch.to(self.world.device), rate)
            self.state.step += 1
            self.state.seconds = time.perf_counter() - started
            self._after_step(stage, losses, rate, last=step + 1 == stage.steps)

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

    def _step(self, stage: Stage, batch: ClipBatch, rate: float) -> Losses:
        """Do one optimiser step and return its losses."""
        step = self.state.step
        rng = np.random.default_rng((self.config.seed, step))
        plan = draw_plan(stage.prompts, stage.frames, rng)
        torch.manual_seed(int(rng.integers(2**31)) + self.world.rank)
        self._wrapped.train()
        with self._autocast():
            predicted = self._wrapped(batch, plan, stage.losses.affinity > 0)
        losses = clip_losses(
            predicted.frames,
            batch.masks,
            object_count=self.world.mean(float(batch.clip_of.numel())),
            weights=stage.losses,
            mask_loss=stage.mask_loss,
        )
        losses = {name: value / stage.frames for name, value in losses.items()}
        if predicted.affinity is not None:
            losses["affinity"] = stage.losses.affinity * predicted.affinity
        total = torch.stack(list(losses.values())).sum()
        self._require_finite(total, losses)
        total.backward()  # type: ignore[no-untyped-call]
        self._update(rate)
        return {name: value.detach() for name, value in losses.items()} | {"total": total.detach()}

    def _update(self, rate: float) -> None:
        optimizer = self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        if bool(torch.isfinite(norm)):  # a single overflow in the gradient skips its step
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(self.average, self.sam2, self.state.step, self.config.ema)

    def _require_finite(self, total: torch.Tensor, losses: Losses) -> None:
        if self.world.mean(float(total.isfinite())) == 1:
            return
        bad = ", ".join(name for name, value in losses.items() if not bool(value.isfinite()))
        kept = "no state was saved yet"
        if self.state_path.exists():
            kept = f"the last good state is in {self.state_path}"
        raise TrainingError(
            f"the loss ({bad or 'of another process'}) is not finite at step {self.state.step}; "
            f"{kept}; check the data, or start anew with a lower learning rate"
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def _after_step(self, stage: Stage, losses: Losses, rate: float, *, last: bool) -> None:
        if not self.world.is_first:
            return
        config, step = self.config, self.state.step
        values = {name: float(value) for name, value in losses.items()}
        self.log.add_step(step, stage.name, self.state.seconds, rate, values, last=last)
        if self.validate is not None and (
            last or (config.validate_every and step % config.validate_every == 0)
        ):
            self.log.add_scores(step, stage.name, self.state.seconds, self._scores())
        if last or step % config.save_every == 0:
            self.state.save(self.state_path)

    def _scores(self) -> Mapping[str, float]:
        """Validate; what that draws at random must not change the training."""
        assert self.validate is not None
        with torch.random.fork_rng(devices=[]):
            return self.validate(self.average)
