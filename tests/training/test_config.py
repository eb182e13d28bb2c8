"""Configurations refuse what cannot be used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.config import LossWeights, PromptPolicy, Stage, TrainConfig
from tests.training.small import CLIPS, IMAGES, TRAIN


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer"),
        ({"frames": 1.5}, "frames must be a positive integer"),
        ({"image_size": 100}, "image_size must be a multiple of 32"),
        ({"data": {}}, "data must name at least one source"),
        ({"data": {"generated": 0.0}}, "data must name at least one source"),
        ({"data": {"generated": 2.0, "videos": -1.0}}, "shares that are not negative"),
        ({"learning_rate": (1e-3, 0.0)}, "learning_rate must be positive"),
        ({"easy": (0.5, 1.5)}, "easy must be from 0 to 1"),
        ({"hidden": 1.5}, "hidden must be from 0 to 1"),
        ({"least_steps": 0}, "least_steps must be a positive integer"),
        ({"mask_loss": "l2"}, "mask_loss must be focal or balanced"),
    ],
)
def test_stage(changes, message):
    with pytest.raises(InputError, match=f"the training recipe is not usable: .*{message}"):
        replace(CLIPS, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "at least one stage"),
        ({"ema": 1.0}, "ema must be from 0 to below 1"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive"),
        ({"precision": "float16"}, "precision must be float32 or bfloat16"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"workers": -1}, "workers must not be negative"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
    ],
)
def test_train(changes, message):
    with pytest.raises(InputError, match=message):
        replace(TRAIN, **changes)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (PromptPolicy, {"points": 1.5}, "prompts.points must be from 0 to 1"),
        (PromptPolicy, {"from_truth": -0.1}, "prompts.from_truth"),
        (PromptPolicy, {"corrected_frames": 0}, "corrected_frames must be at least 1"),
        (PromptPolicy, {"corrections": -1}, "corrections must not be negative"),
        (LossWeights, {"dice": -1.0}, "losses.dice must not be negative"),
        (LossWeights, {"focal": float("nan")}, "losses.focal must not be negative"),
    ],
)
def test_parts(cls, values, message):
    with pytest.raises(InputError, match=message):
        cls(**values)


def test_steps_of_stages():
    assert TRAIN.total_steps == IMAGES.steps + CLIPS.steps == 5
    longer = TRAIN.scaled(2.5)
    assert [stage.steps for stage in longer.stages] == [round(2.5 * s.steps) for s in TRAIN.stages]
    assert [stage.steps for stage in TRAIN.scaled(0.01).stages] == [1, 1]
    kept = replace(TRAIN, stages=(replace(IMAGES, steps=9, least_steps=4), CLIPS))
    assert [stage.steps for stage in kept.scaled(0.01).stages] == [4, 1]
    assert kept.scaled(0.6).stages[0].steps == 5
    assert replace(IMAGES, steps=3, least_steps=4).scaled_steps(0.5) == 3
    with pytest.raises(InputError, match="scale of the steps must be positive"):
        TRAIN.scaled(0)


def test_defaults_are_usable():
    assert TrainConfig((Stage("s", 1, 1, 1, 32),)).total_steps == 1
