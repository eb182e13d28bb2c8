"""Configurations refuse what cannot be used."""

from dataclasses import replace

import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.config import (
    DistillWeights,
    ImageBatches,
    LossWeights,
    PromptPolicy,
    QuantizerTraining,
    Stage,
    TrainConfig,
)
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
        ({"image_size": -32}, "image_size must be a multiple of 32"),
        ({"frames": 1, "images": ImageBatches(2, 2)}, "images are for stages of clips"),
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
        (DistillWeights, {"masks": -1.0}, "distill.masks must not be negative"),
        (ImageBatches, {"every": 1, "clips": 2}, "images.every must be at least 2"),
        (ImageBatches, {"every": 2, "clips": 0}, "images.clips must be a positive integer"),
        (QuantizerTraining, {"rate": -1.0}, "quantizers.rate must not be negative"),
        (QuantizerTraining, {"observe_every": 0}, "quantizers.observe_every must be at least 1"),
        (QuantizerTraining, {"observe_first": -1}, "observe_first must not be negative"),
        (QuantizerTraining, {"freeze": 1.5}, "quantizers.freeze must be from 0 to 1"),
        (QuantizerTraining, {"lower": ((0.5, 8), (0.5, 4))}, "shares of quantizers.lower must asc"),
        (QuantizerTraining, {"lower": ((1.0, 8),)}, "above 0 and below 1"),
        (QuantizerTraining, {"lower": ((0.2, 4), (0.5, 8))}, "widths of quantizers.lower must des"),
        (QuantizerTraining, {"lower": ((0.2, 9),)}, "must descend, from 8 to 2"),
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


def test_the_models_own_size():
    stages = (replace(IMAGES, image_size=0), CLIPS)
    sizes = [stage.image_size for stage in replace(TRAIN, stages=stages).sized(96).stages]
    assert sizes == [96, CLIPS.image_size]


def test_numbers_of_clips_with_images_between():
    plain, mixed = replace(CLIPS, clips=2), replace(CLIPS, clips=2, images=ImageBatches(3, 5))
    for stage, counts in ((plain, [2] * 7), (mixed, [2, 2, 5, 2, 2, 5, 2])):
        assert [stage.clips_of(step) for step in range(7)] == counts
        assert [stage.clips_before(step) for step in range(8)] == [
            sum(counts[:step]) for step in range(8)
        ]


def test_defaults_are_usable():
    assert TrainConfig((Stage("s", 1, 1, 1, 32),)).total_steps == 1
