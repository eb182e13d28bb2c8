"""Losses against upstream's, and against naive formulas."""

import math

import pytest
import torch

from qsam2_deploy.training.config import LossWeights
from qsam2_deploy.training.model.clip_model import FramePrediction
from qsam2_deploy.training.model.losses import balanced_loss, clip_losses

FRAMES, OBJECTS, SIDE = 3, 4, 16
NAMES = {"mask": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "object": "loss_class"}
UPSTREAM_WEIGHTS = {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1}


def truth():
    """Objects of many sizes; one is absent in the first frame, two in the last."""
    rng = torch.Generator().manual_seed(1)
    share = torch.rand(FRAMES, OBJECTS, 1, 1, generator=rng)
    masks = torch.rand(FRAMES, OBJECTS, SIDE, SIDE, generator=rng) < share
    masks[0, 2], masks[2, :2] = False, False
    assert masks.flatten(2).any(-1).sum() == FRAMES * OBJECTS - 3
    return masks


def predictions(candidates):
    """Frame 1 has three steps (two corrections), with as many masks as ``candidates`` says."""
    rng = torch.Generator().manual_seed(2)
    frames = []
    for steps in (1, 3, 1):
        frame = FramePrediction()
        for step in range(steps):
            masks = candidates[step % len(candidates)]
            logits = 6 * torch.randn(OBJECTS, masks, SIDE, SIDE, generator=rng)
            ious = torch.rand(OBJECTS, masks, generator=rng)
            score = 3 * torch.randn(OBJECTS, 1, generator=rng)
            for values, kept in zip(
                (logits, ious, score), (frame.masks, frame.ious, frame.object_scores), strict=True
            ):
                kept.append(values.requires_grad_())
        frames.append(frame)
    return frames


def leaves(frames):
    return [x for f in frames for kept in (f.masks, f.ious, f.object_scores) for x in kept]


@pytest.mark.parametrize("candidates", [(1,), (3,), (3, 1)])
def test_equal_to_upstream(upstream, candidates):
    theirs = upstream.losses.MultiStepMultiMasksAndIous(
        weight_dict=dict(UPSTREAM_WEIGHTS),
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )
    frames, masks = predictions(candidates), truth()
    outputs = [
        {
            "multistep_pred_multimasks_high_res": frame.masks,
            "multistep_pred_ious": frame.ious,
            "multistep_object_score_logits": frame.object_scores,
        }
        for frame in frames
    ]
    wanted = theirs(outputs, masks)
    found = clip_losses(
        frames, masks, object_count=OBJECTS, weights=LossWeights(), mask_loss="focal"
    )
    for ours, name in NAMES.items():
        torch.testing.assert_close(found[ours], UPSTREAM_WEIGHTS[name] * wanted[name])
        assert found[ours] > 0.1
    total = torch.stack(list(found.values())).sum()
    torch.testing.assert_close(total, wanted["core_loss"])
    inputs = leaves(frames)
    gradients = torch.autograd.grad(total, inputs)
    for ours, expected in zip(
        gradients, torch.autograd.grad(wanted["core_loss"], inputs), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_weights_scale_their_losses():
    frames, masks = predictions((3,)), truth()
    one = clip_losses(frames, masks, object_count=1, weights=LossWeights(), mask_loss="focal")
    # The pixel and dice losses also choose the mask, so both are doubled.
    weights = LossWeights(focal=40, dice=2, iou=5, object_score=7)
    other = clip_losses(frames, masks, object_count=2, weights=weights, mask_loss="focal")
    for name, factor in (("mask", 1), ("dice", 1), ("iou", 2.5), ("object", 3.5)):
        torch.testing.assert_close(other[name], factor * one[name])


def test_absent_objects_train_only_the_score():
    frames, masks = predictions((3,)), torch.zeros(FRAMES, OBJECTS, SIDE, SIDE, dtype=torch.bool)
    for kind in ("focal", "balanced"):
        found = clip_losses(frames, masks, object_count=1, weights=LossWeights(), mask_loss=kind)
        assert found["mask"] == found["dice"] == found["iou"] == 0
        assert found["object"] > 0


def naive_balanced(logits, target):
    """Half the mean over the object plus half the mean over the background."""
    losses = {True: [], False: []}
    for x, y in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        probability = 1 / (1 + math.exp(-x))
        losses[y > 0].append(-math.log(probability if y else 1 - probability))
    return 0.5 * sum(sum(part) / len(part) for part in losses.values())


@pytest.mark.parametrize("count", [4, 30, 128, 250])
def test_balanced_loss(count):
    logits = 2 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(count))
    target = (torch.arange(SIDE * SIDE) < count).float().reshape(1, 1, SIDE, SIDE)
    found = balanced_loss(logits, target)
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(naive_balanced(logits, target), rel=1e-5)


def test_balanced_loss_of_tiny_objects_is_bounded():
    """Below one percent of the frame an object counts less, so that one pixel cannot explode."""
    target = torch.zeros(1, 1, SIDE, SIDE)
    target[..., 0, 0] = 1
    logits = torch.full_like(target, -10.0)
    assert float(balanced_loss(logits, target)) == pytest.approx(
        0.5 * 10 / SIDE**2 / 0.01, rel=1e-3
    )


def test_the_all_background_mask_is_no_cheap_solution():
    target = torch.zeros(1, 1, SIDE, SIDE)
    target[..., :3, :3] = 1
    background, half_right = torch.full_like(target, -4.0), torch.where(target > 0, 4.0, 1.0)
    assert balanced_loss(background, target) > balanced_loss(half_right, target)
