"""One process of a run of several; started by test_distributed.py, as torchrun would."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from qsam2_deploy.training.config import LossWeights, PromptPolicy, Stage, TrainConfig
from qsam2_deploy.training.distributed import joined_world
from tests.training.small import MASK_ONLY, SIZE, new_run, tiny_model

RATES = (1e-4, 1e-4)
CLIPS = Stage("clips", 2, 2, 2, SIZE, learning_rate=RATES, prompts=MASK_ONLY)
MIXED = (
    # Random clicks differ between processes; a step on images uses no memory.
    Stage("images", 1, 1, 2, SIZE, losses=LossWeights(affinity=1.0)),
    Stage("pairs", 1, 2, 2, SIZE, prompts=PromptPolicy(points=1.0, corrections=1)),
)


def config(kind):
    stages = (CLIPS,) if kind == "clips" else MIXED
    return TrainConfig(stages=stages, warmup_steps=1, save_every=100, log_every=1)


def gradients_of(run):
    """Adam's first moments: the gradients, weighted by step."""
    moments = run.state.optimizer.state
    return {n: moments[p]["exp_avg"] for n, p in run.model.named_parameters() if p in moments}


def main(folder):
    torch.set_num_threads(1)
    with joined_world("cpu") as world:
        for kind in ("clips", "mixed"):
            run = new_run(folder / kind, config(kind), world=world, model=tiny_model())
            run.train()
            content = {"weights": run.model.state_dict(), "gradients": gradients_of(run)}
            content["size"] = world.size
            torch.save(content, folder / f"{kind}{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
