"""Which prompts the objects of a batch get: drawn once per step, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..config import PromptPolicy

Points = dict[str, torch.Tensor]
Kind = Literal["mask", "click", "box"]


@dataclass(frozen=True)
class PromptPlan:
    """What happens in one batch.

    Attributes:
        kind: prompt of the first frame.
        corrected: frames that get correction clicks, ascending.
        from_truth: for each correction click of each such frame, whether it is drawn from the
            true mask instead of the error.
    """

    kind: Kind
    corrected: tuple[int, ...] = ()
    from_truth: tuple[bool, ...] = ()


def draw_plan(policy: PromptPolicy, frame_count: int, rng: np.random.Generator) -> PromptPlan:
    """Draw the prompts of a batch, as ``SAM2Train.prepare_prompt_inputs`` does.

    An image always gets a click or a box: with a mask there would be nothing to predict.
    """
    if frame_count > 1 and rng.random() >= policy.points:
        return PromptPlan("mask")
    kind: Kind = "box" if rng.random() < policy.box else "click"
    if policy.corrections == 0:
        return PromptPlan(kind)
    wanted = int(rng.integers(1, policy.corrected_frames, endpoint=True))
    others = rng.permutation(np.arange(1, frame_count))[: wanted - 1]
    from_truth = rng.random(policy.corrections) < policy.from_truth
    return PromptPlan(kind, (0, *sorted(map(int, others))), tuple(map(bool, from_truth)))


def first_points(kind: Kind, masks: torch.Tensor) -> Points:
    """Return clicks or boxes on ``masks`` [N, 1, S, S] bool, with upstream's sampling noise."""
    from sam2.modeling.sam2_utils import get_next_point, sample_box_points

    if kind == "box":
        coords, labels = sample_box_points(masks)
    else:
        coords, labels = get_next_point(masks, None, "uniform")
    return {"point_coords": coords, "point_labels": labels}


def corrected_points(
    points: Points | None, masks: torch.Tensor, predicted: torch.Tensor | None
) -> Points:
    """Return ``points`` with one more click per object, where the prediction is wrong.

    Args:
        points: the earlier points, or None.
        masks: [N, 1, S, S] bool, the truth.
        predicted: [N, 1, S, S] bool, or None to draw from the true mask.
    """
    from sam2.modeling.sam2_utils import get_next_point
    from sam2.utils.misc import concat_points

    coords, labels = get_next_point(masks, predicted, "uniform")
    result: Any = concat_points(points, coords, labels)
    return dict(result)
