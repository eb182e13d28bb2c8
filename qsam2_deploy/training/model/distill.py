"""Losses that follow a teacher, the float model; they need no labels. Ours, beyond the paper.

The teacher sees the same images and gets the same prompts, corrections included; each of the two
models goes on from its own masks and memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ...errors import InputError
from ..config import DistillWeights, Stage
from ..inputs.batch import ClipBatch
from ..inputs.prompts import PromptPlan
from ..inputs.sources import UNLABELLED
from .clip_model import ClipModel, ClipPrediction, FramePrediction, set_image_size
from .losses import Losses

_LARGEST_LOGIT = 32.0
"""Masks of absent objects are at -1024, which is as sure as -32."""


class Teacher:
    """A float model that shows what to predict."""

    def __init__(self, sam2: Any, device: torch.device) -> None:
        """Take over ``sam2``, a model of the ``sam2`` package, and put it on ``device``."""
        self._model = ClipModel(sam2.requires_grad_(False), affinity=False).to(device)
        self._model.eval()
        # Which candidate is remembered depends on these flags; dropout stays off.
        sam2.training = sam2.sam_mask_decoder.training = True

    @torch.no_grad()
    def __call__(
        self, batch: ClipBatch, plan: PromptPlan, script: Sequence[FramePrediction]
    ) -> ClipPrediction:
        """Track the objects of ``batch`` with the points of ``script``, the student's."""
        set_image_size(self._model.sam2, int(batch.images.shape[-1]))
        prediction: ClipPrediction = self._model(batch, plan, script=script)
        return prediction


def check_has_loss(stage: Stage, sources: Sequence[str], *, has_teacher: bool) -> None:
    """Refuse a stage that would learn nothing, or nothing from one of its ``sources``.

    Raises:
        InputError: frames without labels, or nothing but the teacher's losses, and no teacher.
    """
    distils = has_teacher and stage.distill.any
    if distils or (stage.uses_labels and UNLABELLED not in sources):
        return
    what = "frames without labels" if stage.uses_labels else "a teacher's losses alone"
    wanted = "set 'distill' in that stage" if has_teacher else "give the float model as the teacher"
    raise InputError(
        f"stage {stage.name} trains on {what}, but there is nothing to follow; {wanted}"
    )


def distillation_losses(
    student: ClipPrediction,
    teacher: ClipPrediction,
    *,
    object_count: float,
    clip_count: float,
    weights: DistillWeights,
) -> Losses:
    """Return the weighted losses of a batch, summed over frames: per clip, or per object.

    Args:
        student: what is trained.
        teacher: what it should be.
        object_count: what sums over objects are divided by: objects per process, averaged over
            processes.
        clip_count: the same for clips.
        weights: of the losses; those of weight 0 are left out.
    """
    losses: Losses = {}
    if weights.features > 0:
        error = feature_error(student.features, teacher.features)
        losses["features"] = weights.features * error / clip_count
    pairs = list(zip(student.frames, teacher.frames, strict=True))
    for name, weight, error_of in (
        ("teacher mask", weights.masks, _mask_error),
        ("teacher score", weights.scores, _score_error),
    ):
        if weight > 0:
            errors = torch.stack([error_of(ours, theirs) for ours, theirs in pairs])
            losses[name] = weight * errors.sum() / object_count
    return losses


def feature_error(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the squared error relative to the teacher's features, summed over images: [].

    ``|s - t|^2 / |t|^2`` of each image and level, averaged over the levels; each a map
    [images, C, h, w]. Levels whose features are small count as much as the others.
    """
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        truth = theirs.float().flatten(1)
        difference = (ours.float().flatten(1) - truth).square().sum(1)
        errors.append((difference / truth.square().sum(1).clamp(min=1e-12)).sum())
    return torch.stack(errors).mean()


def bernoulli_divergence(logits: torch.Tensor, target_logits: torch.Tensor) -> torch.Tensor:
    """Return KL(target || prediction) of each element, in nats; 0 where the logits are equal."""
    logits = logits.float().clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    target = target_logits.float().clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    share = target.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    return cross_entropy - F.binary_cross_entropy_with_logits(target, share, reduction="none")


def _mask_error(student: FramePrediction, teacher: FramePrediction) -> torch.Tensor:
    """Sum over steps and objects of the mean over candidates and pixels."""
    steps = zip(student.masks, teacher.masks, strict=True)
    return torch.stack(
        [bernoulli_divergence(ours, theirs).flatten(1).mean(1).sum() for ours, theirs in steps]
    ).sum()


def _score_error(student: FramePrediction, teacher: FramePrediction) -> torch.Tensor:
    """Sum over steps and objects: the object score's divergence and the IoUs' mean distance."""
    scores = zip(student.object_scores, teacher.object_scores, strict=True)
    ious = zip(student.ious, teacher.ious, strict=True)
    errors = [bernoulli_divergence(ours, theirs).sum() for ours, theirs in scores]
    errors += [(a.float() - b.float()).abs().mean(1).sum() for a, b in ious]
    return torch.stack(errors).sum()
