"""Losses that follow a teacher."""

from dataclasses import replace

import pytest
import torch

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.config import DistillWeights, LossWeights, Stage
from qsam2_deploy.training.inputs.prompts import PromptPlan
from qsam2_deploy.training.model.clip_model import ClipModel
from qsam2_deploy.training.model.distill import (
    Teacher,
    bernoulli_divergence,
    check_has_loss,
    distillation_losses,
    feature_error,
)
from tests.training.small import CPU, generated_batch, tiny_model

WEIGHTS = DistillWeights(features=2.0, masks=3.0, scores=1.0)
NO_LABELS = LossWeights(0.0, 0.0, 0.0, 0.0)


def predictions(student_seed, plan):
    batch = generated_batch(2, frames=2)
    torch.manual_seed(0)
    student = ClipModel(tiny_model(seed=student_seed).requires_grad_(True), affinity=False).train()
    predicted = student(batch, plan)
    return student, predicted, Teacher(tiny_model(seed=0), CPU.device)(
        batch, plan, predicted.frames
    )  # fmt: skip


def losses(predicted, wanted, weights=WEIGHTS):
    return distillation_losses(predicted, wanted, object_count=4, clip_count=2, weights=weights)


@pytest.mark.parametrize(
    "plan", [PromptPlan("mask"), PromptPlan("click", (0, 1), (False, True))], ids=["mask", "click"]
)
def test_a_student_like_its_teacher_has_no_loss(plan):
    """Random clicks are the same for both."""
    _, predicted, wanted = predictions(0, plan)
    for frame, other in zip(predicted.frames, wanted.frames, strict=True):
        assert len(frame.masks) == len(other.masks)
        torch.testing.assert_close(frame.chosen, other.chosen)
    assert all(float(value.detach()) < 1e-4 for value in losses(predicted, wanted).values())


def test_another_student_learns_from_its_teacher():
    student, predicted, wanted = predictions(1, PromptPlan("box", (0,), (False,)))
    found = losses(predicted, wanted)
    assert set(found) == {"features", "teacher mask", "teacher score"}
    assert min(float(value.detach()) for value in found.values()) > 1e-3
    assert not any(level.requires_grad for level in wanted.features)
    found["features"].backward(retain_graph=True)
    assert student.sam2.sam_mask_decoder.conv_s0.weight.grad.abs().max() > 0
    assert student.sam2.mask_downsample.weight.grad is None
    found["teacher mask"].backward()
    hypernetwork = student.sam2.sam_mask_decoder.output_hypernetworks_mlps[0].layers[0].weight
    assert hypernetwork.grad.abs().max() > 0
    assert set(losses(predicted, wanted, DistillWeights(masks=1.0))) == {"teacher mask"}


def test_feature_error():
    wanted = [torch.full((2, 3, 4, 4), 2.0), torch.full((2, 5, 2, 2), 1e-3)]
    found = [2.5 * wanted[0], 1.0 * wanted[1]]
    # Two images with relative errors of 1.5**2 and 0.
    assert float(feature_error(found, wanted)) == pytest.approx(2 * 1.5**2 / 2)


def test_divergence():
    logits, target = torch.tensor([0.0, 2.0, -1024.0, 3.0]), torch.tensor([0.0, 0.0, -1024.0, 3.0])
    p, q = 0.5, torch.tensor(2.0).sigmoid()
    expected = float(p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    found = bernoulli_divergence(logits, target)
    torch.testing.assert_close(found, torch.tensor([0.0, expected, 0.0, 0.0]), atol=1e-6, rtol=0)


STAGE = Stage("s", 1, 1, 1, 32, distill=WEIGHTS)


def test_stages_that_would_learn_nothing():
    check_has_loss(STAGE, ["generated"], has_teacher=False)
    check_has_loss(replace(STAGE, losses=NO_LABELS), ["unlabelled"], has_teacher=True)
    with pytest.raises(InputError, match=r"stage s trains on frames without labels, but ther"):
        check_has_loss(STAGE, ["generated", "unlabelled"], has_teacher=False)
    with pytest.raises(InputError, match=r"a teacher's losses alone, .* give the float model"):
        check_has_loss(replace(STAGE, losses=NO_LABELS), ["generated"], has_teacher=False)
    plain = replace(STAGE, distill=DistillWeights())
    with pytest.raises(InputError, match=r"without labels, but .* set 'distill' in that stage"):
        check_has_loss(plain, ["unlabelled"], has_teacher=True)
