"""A SAM2 model tracking the objects of a batch of clips, with gradients.

The model is the one of the ``sam2`` package; this module only feeds it, in the order of
``training/model/sam2.py`` of the upstream repository: prompt the first frame, track the others,
click where the prediction is wrong, and remember each frame for the next ones.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..inputs.batch import ClipBatch
from ..inputs.prompts import Points, PromptPlan, corrected_points, first_points
from .affinity import AffinityHead


def set_image_size(sam2: Any, size: int) -> None:
    """Let ``sam2`` take images of ``size`` x ``size`` pixels; no weight depends on the size."""
    feature_size = size // 16
    sam2.image_size = size
    sam2.sam_image_embedding_size = feature_size
    encoder = sam2.sam_prompt_encoder
    encoder.input_image_size = (size, size)
    encoder.image_embedding_size = (feature_size, feature_size)
    encoder.mask_input_size = (4 * feature_size, 4 * feature_size)


@dataclass
class FramePrediction:
    """What the decoder said of one frame, once per prediction step (first, then corrections).

    Attributes:
        masks: per step [N, M, S, S] float32 logits; M is 3 for ambiguous prompts, else 1.
        ious: per step [N, M], the predicted IoU of each mask.
        object_scores: per step [N, 1] logits.
        points: per step the points that the decoder got, or None.
        chosen: [N, 1, S, S] logits of the mask that is remembered.
    """

    masks: list[torch.Tensor] = field(default_factory=list)
    ious: list[torch.Tensor] = field(default_factory=list)
    object_scores: list[torch.Tensor] = field(default_factory=list)
    points: list[Points | None] = field(default_factory=list)
    chosen: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, points: Points | None, outputs: tuple[Any, ...]) -> None:
        """Append the points and the seven outputs of ``SAM2Base._forward_sam_heads``."""
        _, masks, ious, _, self.chosen, _, object_scores = outputs
        self.points.append(points)
        self.masks.append(masks)
        self.ious.append(ious)
        self.object_scores.append(object_scores)


@dataclass(frozen=True)
class ClipPrediction:
    """What a model made of a batch.

    Attributes:
        frames: predictions of the T frames.
        features: levels of the feature pyramid that the decoder uses, [T * B, C', h, w] each.
        affinity: the affinity loss if it was asked for, else None.
    """

    frames: list[FramePrediction]
    features: list[torch.Tensor]
    affinity: torch.Tensor | None


class ClipModel(nn.Module):
    """A SAM2 model and, while training from scratch, its auxiliary head.

    A module of its own, so that ``DistributedDataParallel`` can wrap one forward pass per step.
    """

    def __init__(self, sam2: Any, *, affinity: bool, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.sam2 = sam2
        self.affinity = AffinityHead(sam2.hidden_dim) if affinity else None
        self._checkpoint = checkpoint_activations

    def forward(
        self,
        batch: ClipBatch,
        plan: PromptPlan,
        with_affinity: bool = False,
        script: Sequence[FramePrediction] | None = None,
    ) -> ClipPrediction:
        """Track all objects of ``batch`` through its frames.

        Args:
            batch: the clips.
            plan: when to prompt with what.
            with_affinity: also return the affinity loss.
            script: predictions of another model on the same batch and plan, whose points are used
                again; by default they are drawn, and corrections go where this model is wrong.
        """
        with self._recomputing():
            encoded = dict(self.sam2.forward_image(batch.images))
            with _captured(self.sam2.sam_mask_decoder.output_upscaling[-1]) as mask_features:
                frames = _Tracking(self.sam2, batch, plan, encoded, script).run()
        affinity = None
        if with_affinity and self.affinity is not None:
            affinity = self.affinity(encoded["backbone_fpn"], batch)
            affinity = affinity + self.affinity.mask_feature_loss(mask_features[0], batch)
        return ClipPrediction(frames, encoded["backbone_fpn"], affinity)

    def _recomputing(self) -> AbstractContextManager[None]:
        if not (self._checkpoint and torch.is_grad_enabled()):
            return nullcontext()
        sam2 = self.sam2
        return _recomputed([*sam2.image_encoder.trunk.blocks, *sam2.memory_attention.layers])


@contextmanager
def _recomputed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block, let ``modules`` keep their inputs alone for the backward pass.

    Module by module, so that the activations of no more than one exist at a time.
    """
    changed = list(modules)
    for module in changed:
        forward = functools.partial(checkpoint, module.forward, use_reentrant=False)
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


@contextmanager
def _captured(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what ``module`` returns inside the block."""
    outputs: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


class _Tracking:
    """One pass through the frames of a batch; holds the memory bank of that pass."""

    def __init__(
        self,
        sam2: Any,
        batch: ClipBatch,
        plan: PromptPlan,
        encoded: dict[str, Any],
        script: Sequence[FramePrediction] | None,
    ) -> None:
        self.sam2, self.batch, self.plan, self.script = sam2, batch, plan, script
        _, self.features, self.positions, self.sizes = sam2._prepare_backbone_features(
            dict(encoded)
        )
        self.memory: dict[str, dict[int, Any]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }

    def run(self) -> list[FramePrediction]:
        return [self._frame(index) for index in range(self.batch.frame_count)]

    def _frame(self, index: int) -> FramePrediction:
        sam2, truth = self.sam2, self.batch.masks[index].unsqueeze(1)
        images = self.batch.images_of(index)
        features = [level[:, images] for level in self.features]
        points, mask = self._prompts(index, truth)
        current, outputs, high_res, conditioned = sam2._track_step(
            index, index == 0, features, [level[:, images] for level in self.positions],
            self.sizes, points, mask, self.memory, self.batch.frame_count, False, None,
        )  # fmt: skip
        prediction = FramePrediction()
        prediction.add(points, outputs)
        if index in self.plan.corrected:
            outputs, points = self._correct(
                prediction, outputs, points, truth, conditioned, high_res, index
            )
        self._remember(index, current, outputs, features, points)
        return prediction

    def _prompts(
        self, index: int, truth: torch.Tensor
    ) -> tuple[Points | None, torch.Tensor | None]:
        if index > 0:
            return None, None
        if self.plan.kind == "mask":
            return None, truth
        if self.script is not None:
            return self.script[index].points[0], None
        return first_points(self.plan.kind, truth), None

    def _correct(
        self,
        prediction: FramePrediction,
        outputs: tuple[Any, ...],
        points: Points | None,
        truth: torch.Tensor,
        conditioned: torch.Tensor,
        high_res: list[torch.Tensor] | None,
        index: int,
    ) -> tuple[tuple[Any, ...], Points | None]:
        """Click on errors; the decoder also gets the logits of its last answer."""
        for step, from_truth in enumerate(self.plan.from_truth, 1):
            if self.script is not None:
                points = self.script[index].points[step]
            else:
                predicted = None if from_truth else outputs[4] > 0
                points = corrected_points(points, truth, predicted)
            outputs = self.sam2._forward_sam_heads(
                backbone_features=conditioned,
                point_inputs=points,
                mask_inputs=outputs[3],
                high_res_features=high_res,
                multimask_output=self.sam2._use_multimask(index == 0, points),
            )
            prediction.add(points, outputs)
        return outputs, points

    def _remember(
        self,
        index: int,
        current: dict[str, Any],
        outputs: tuple[Any, ...],
        features: list[torch.Tensor],
        points: Points | None,
    ) -> None:
        if index + 1 == self.batch.frame_count:
            return  # nothing comes after it
        _, _, _, low_res, high_res, pointer, score = outputs
        current |= {"pred_masks": low_res, "pred_masks_high_res": high_res, "obj_ptr": pointer}
        self.sam2._encode_memory_in_output(
            features, self.sizes, points, True, high_res, score, current
        )
        conditioning = index == 0 or index in self.plan.corrected
        bank = "cond_frame_outputs" if conditioning else "non_cond_frame_outputs"
        self.memory[bank][index] = current
