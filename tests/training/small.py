"""A tiny model, clips and runs for the tests of training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qsam2_deploy.data.generated.clips import GeneratedClips
from qsam2_deploy.data.generated.config import GeneratedClipsConfig
from qsam2_deploy.data.sample import Clip
from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.training.config import LossWeights, PromptPolicy, Stage, TrainConfig
from qsam2_deploy.training.distributed import World
from qsam2_deploy.training.inputs.batch import batch_from_clips
from qsam2_deploy.training.run.log import TrainingLog
from qsam2_deploy.training.run.loop import TrainingRun
from tests.support.small_config import small_config
from tests.support.weights import random_state_dict

SIZE = 64
CPU = World(0, 1, torch.device("cpu"))
MASK_ONLY = PromptPolicy(points=0.0)
GENERATED = GeneratedClips(GeneratedClipsConfig(textures=4))


def tiny_config(size=SIZE):
    return small_config(size, d_model=32, memory_dim=16, embed_dim=8)


def tiny_model(size=SIZE, *, seed=0):
    """Freshly initialised."""
    torch.manual_seed(seed)
    return build_model(tiny_config(size))


def lively_model(size=SIZE, *, seed=0):
    """With weights that let prompts and memory move the masks."""
    model = build_model(small_config(size))
    model.load_state_dict(random_state_dict(model, seed))
    return model


def generated_clips(count=2, *, frames=3, size=SIZE):
    return [GENERATED.clip(index, frames=frames, size=size) for index in range(count)]


def generated_batch(count=2, *, frames=3, size=SIZE, objects=2):
    return batch_from_clips(generated_clips(count, frames=frames, size=size), objects=objects)


def square_clip(frames=3, size=SIZE):
    """A bright square that moves over a dark, noisy background."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (frames, size, size, 3), dtype=np.uint8)
    masks = np.zeros((frames, 1, size, size), bool)
    for t in range(frames):
        x, y, side = size // 8 + 4 * t, size // 4 + 2 * t, size // 3
        masks[t, 0, y : y + side, x : x + side] = True
    images[masks[:, 0]] += 180
    return Clip(images, masks, "square")


class FixedClip:
    """A source that always gives the same clip."""

    def clip(self, index, *, frames, size):
        return square_clip(frames, size)


IMAGES = Stage(
    "images", steps=2, frames=1, clips=1, image_size=SIZE, losses=LossWeights(affinity=1.0)
)
CLIPS = Stage(
    "clips", steps=3, frames=2, clips=1, image_size=SIZE, prompts=PromptPolicy(corrections=1)
)
TRAIN = TrainConfig(stages=(IMAGES, CLIPS), warmup_steps=2, log_every=1, save_every=2)


def new_run(
    folder,
    config=TRAIN,
    *,
    validate=None,
    sources=None,
    model=None,
    world=CPU,
    teacher=None,
    **changes,
):
    """A run whose files are ``run.state`` and ``run.log.jsonl`` in ``folder``."""
    config = replace(config, **changes)
    return TrainingRun(
        config=config,
        sam2=model or tiny_model(),
        inputs=tiny_config(),
        sources=sources or {"generated": GENERATED},
        world=world,
        state_path=folder / "run.state",
        log=TrainingLog(folder / "run.log.jsonl", every=config.log_every, quiet=True),
        validate=validate,
        teacher=teacher,
    )


def assert_equal_states(one, other):
    """Compare nested states of modules and optimizers bit by bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal_states(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def stop_before(run: TrainingRun, step: int) -> None:
    """Train, and interrupt the run before a step, as with Ctrl-C."""
    real = run._step

    def stopping(*arguments):
        if run.state.step == step:
            raise KeyboardInterrupt
        return real(*arguments)

    run._step = stopping
    with pytest.raises(KeyboardInterrupt):
        run.train()
