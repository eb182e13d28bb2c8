"""SAM2's training losses (SAM 2 paper, appendix D.2.2; upstream ``training/loss_fns.py``).

Written anew, because upstream's file cannot be imported without its whole trainer. Numbers are
equal: a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..config import LossWeights, MaskLoss
from .clip_model import FramePrediction

_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
_BALANCED_WEIGHT = 2.0
_SMALLEST_SHARE = 0.01

Losses = dict[str, torch.Tensor]


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of each mask: [N, M, H, W] logits and truth (0, 1) -> [N, M].

    -alpha_t (1 - p_t)^gamma log p_t, averaged over pixels (Lin et al., arXiv 1708.02002), with
    SAM2's alpha of 0.25 and gamma of 2.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # exp(-cross entropy) is the probability of the true class.
    hard = (1 - torch.exp(-cross_entropy)) ** _FOCAL_GAMMA
    alpha = (1 - _FOCAL_ALPHA) + (2 * _FOCAL_ALPHA - 1) * target
    return (alpha * hard * cross_entropy).flatten(2).mean(-1)


def balanced_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return a cross-entropy in which object and background weigh the same: [N, M].

    With it the all-background mask is no cheap solution, where a model that starts from random
    weights would stay for long.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    share = target.flatten(2).mean(-1)[:, :, None, None]
    inside = 0.5 * target / share.clamp(min=_SMALLEST_SHARE)
    outside = 0.5 * (1 - target) / (1 - share).clamp(min=_SMALLEST_SHARE)
    return ((inside + outside) * cross_entropy).flatten(2).mean(-1)


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) of each mask: [N, M]."""
    probability, target = logits.sigmoid().flatten(2), target.flatten(2)
    overlap = 2 * (probability * target).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + target.sum(-1) + 1)


def true_ious(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the IoU of ``logits > 0`` with the truth: [N, M], no gradient."""
    predicted, truth = (logits > 0).flatten(2), (target > 0).flatten(2)
    union = (predicted | truth).sum(-1).clamp(min=1)
    return (predicted & truth).sum(-1) / union


def _step_losses(
    logits: torch.Tensor,
    ious: torch.Tensor,
    object_scores: torch.Tensor,
    target: torch.Tensor,
    labelled: torch.Tensor,
    weights: LossWeights,
    mask_loss: MaskLoss,
) -> Losses:
    """Return the four losses of one prediction step, each summed over the labelled objects.

    Of several candidate masks the one with the lowest mask loss is trained, but the predicted IoU
    of all of them. Masks and IoUs count only where the object is present.
    """
    present = target.flatten(1).any(1).to(logits.dtype)
    truth = target.unsqueeze(1).to(logits.dtype).expand_as(logits)
    if mask_loss == "balanced":
        pixel_weight, pixel = _BALANCED_WEIGHT, balanced_loss(logits, truth)
    else:
        pixel_weight, pixel = weights.focal, focal_loss(logits, truth)
    dice = dice_loss(logits, truth)
    best = (pixel_weight * pixel + weights.dice * dice).argmin(1, keepdim=True)
    iou = (ious - true_ious(logits, truth)).abs().mean(1)
    score = F.binary_cross_entropy_with_logits(object_scores.flatten(), present, reduction="none")
    counted = present * labelled
    return {
        "mask": pixel_weight * (pixel.gather(1, best)[:, 0] * counted).sum(),
        "dice": weights.dice * (dice.gather(1, best)[:, 0] * counted).sum(),
        "iou": weights.iou * (iou * counted).sum(),
        "object": weights.object_score * (score * labelled).sum(),
    }


def clip_losses(
    frames: Sequence[FramePrediction],
    masks: torch.Tensor,
    *,
    object_count: float,
    weights: LossWeights,
    mask_loss: MaskLoss,
    labelled: torch.Tensor | None = None,
) -> Losses:
    """Return the weighted losses of a batch, summed over frames and steps, per object.

    Args:
        frames: predictions of the T frames.
        masks: [T, N, S, S] bool, the truth.
        labelled: [N] bool, the objects whose masks are true; None for all.
        object_count: what sums are divided by: objects per process, averaged over processes.
        weights: of the losses.
        mask_loss: which pixel loss.
    """
    total: Losses = {}
    counted = torch.ones_like(masks[0, :, 0, 0]) if labelled is None else labelled
    for prediction, target in zip(frames, masks, strict=True):
        steps = zip(prediction.masks, prediction.ious, prediction.object_scores, strict=True)
        for logits, ious, scores in steps:
            losses = _step_losses(
                logits.float(), ious.float(), scores.float(), target, counted, weights, mask_loss
            )
            for name, value in losses.items():
                total[name] = total.get(name, torch.zeros_like(value)) + value / object_count
    return total
