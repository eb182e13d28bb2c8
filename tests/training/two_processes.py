"""One process of a run of several; started by test_distributed.py, as torchrun would."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from qsam2_deploy.errors import CheckpointError
from qsam2_deploy.training.config import (
    DistillWeights,
    LossWeights,
    PromptPolicy,
    QuantizerTraining,
    Stage,
    TrainConfig,
)
from qsam2_deploy.training.distributed import joined_world
from tests.support.quantized_model import quantize_in_place
from tests.training.small import CPU, MASK_ONLY, SIZE, new_run, tiny_model

RATES = (1e-4, 1e-4)
CLIPS = Stage("clips", 2, 2, 2, SIZE, learning_rate=RATES, prompts=MASK_ONLY)
DISTILLED = replace(CLIPS, steps=1, distill=DistillWeights(features=1.0, masks=1.0, scores=1.0))
MIXED = (
    # Random clicks differ between processes; a step on images uses no memory.
    Stage("images", 1, 1, 2, SIZE, losses=LossWeights(affinity=1.0)),
    Stage("pairs", 1, 2, 2, SIZE, prompts=PromptPolicy(points=1.0, corrections=1)),
)


KINDS = ("clips", "mixed", "quantized")


def config(kind, **changes):
    stages = {"clips": (CLIPS,), "mixed": MIXED, "quantized": (DISTILLED,)}[kind]
    stages = tuple(replace(stage, **changes) for stage in stages)
    return TrainConfig(
        stages=stages,
        warmup_steps=1,
        save_every=100,
        log_every=1,
        quantizers=QuantizerTraining(freeze=0.0),
    )


def run_of(kind, folder, world=CPU, **changes):
    """A new run; the quantized one distils from the float model that it was made from."""
    model = tiny_model()
    if kind == "quantized":
        model = quantize_in_place(model, 8)
        teacher = tiny_model()
        return new_run(folder, config(kind, **changes), world=world, model=model, teacher=teacher)
    return new_run(folder, config(kind, **changes), world=world, model=model)


def gradients_of(run):
    """Adam's first moments: the gradients, weighted by step."""
    moments = run.state.optimizer.state
    return {n: moments[p]["exp_avg"] for n, p in run.model.named_parameters() if p in moments}


def contents(run):
    return {
        "size": run.world.size,
        "step": run.state.step,
        "weights": run.model.state_dict(),
        "gradients": gradients_of(run),
    }


def resumed(folder, world):
    """The run on clips from its state, as on machines of which the first one alone has it."""
    nowhere = folder / "nowhere"
    refused = run_of("clips", nowhere, world)
    try:
        refused.resume()
    except CheckpointError as error:
        message = str(error)
    run = run_of("clips", folder / "clips" if world.is_first else nowhere, world)
    run.resume()
    return contents(run) | {"message": message}


def main(folder):
    torch.set_num_threads(1)
    with joined_world("cpu") as world:
        for kind in KINDS:
            run = run_of(kind, folder / kind, world)
            run.train()
            torch.save(contents(run), folder / f"{kind}{world.rank}.pt")
        torch.save(resumed(folder, world), folder / f"resumed{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
