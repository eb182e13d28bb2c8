"""Scores while training: the model tracks a few held-out clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...data.generated.clips import GeneratedClips
from ...data.generated.config import GeneratedClipsConfig
from ...data.sample import Clip, VideoSequence
from ...errors import InputError
from ...evaluation.metrics import boundary_accuracy, region_similarity
from ..inputs.batch import batch_from_clips
from ..inputs.prompts import Kind, Points
from ..model.clip_model import set_image_size

_MEMORY_FRAMES = 16  # older frames are never looked at: pointers reach back 16 frames, masks 7

_HELD_OUT = 1_000_003  # added to the seed


@dataclass(frozen=True)
class ClipValidation:
    """Tracks ``clips`` from a prompt of their first frame.

    The scores are in percent, at the size of the clips: ``J&F`` from a mask, ``J&F click`` from
    the centre-most point, and ``IoU box``: the mask of the first frame from its box.
    """

    clips: Sequence[Clip]

    def __call__(self, sam2: Any) -> dict[str, float]:
        """Score ``sam2``, a model of the ``sam2`` package in evaluation mode."""
        device = next(sam2.parameters()).device
        from_mask = [_video_score(sam2, clip, "mask", device) for clip in self.clips]
        from_click = [_video_score(sam2, clip, "click", device) for clip in self.clips]
        boxes = [_box_score(sam2, clip, device) for clip in self.clips]
        return {
            "J&F": 100 * float(np.mean(np.concatenate(from_mask))),
            "J&F click": 100 * float(np.mean(np.concatenate(from_click))),
            "IoU box": 100 * float(np.mean(np.concatenate(boxes))),
        }


@dataclass(frozen=True)
class Validations:
    """Several validations; the name of each goes before its scores."""

    parts: Mapping[str, ClipValidation]

    def __call__(self, sam2: Any) -> dict[str, float]:
        """Score ``sam2`` on all of them."""
        return {
            f"{name} {score}": value
            for name, part in self.parts.items()
            for score, value in part(sam2).items()
        }


def generated_validation(
    config: GeneratedClipsConfig, size: int, *, count: int = 8, frames: int = 12
) -> ClipValidation:
    """Return a validation on generated clips of another seed than ``config``'s, without photos.

    Whatever share of easy clips and hidden objects ``config`` trains on, these have none.
    """
    held_out = replace(config, seed=config.seed + _HELD_OUT, easy=0.0, hidden=0.0)
    source = GeneratedClips(held_out)
    return ClipValidation([source.clip(n, frames=frames, size=size) for n in range(count)])


def whole_clip(sequence: VideoSequence, size: int, *, most: int = 30) -> Clip:
    """Return the first annotated frames of a sequence, each squashed to ``size`` x ``size`` pixels.

    Raises:
        InputError: fewer than two frames are annotated, or the first one shows no object.
    """
    from PIL import Image

    indices = sequence.annotated[:most]
    first = sequence.masks(indices[0])
    ids = [number for number in sequence.object_ids if first.get(number, np.zeros(1)).any()]
    if len(indices) < 2 or not ids:
        raise InputError(
            f"{sequence.name} cannot be used for validation: it needs two annotated frames, and "
            "an object in the first one; choose another sequence"
        )
    frames, masks = [], []
    for index in indices:
        image = Image.fromarray(sequence.frame(index))
        frames.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
        found = sequence.masks(index)
        empty = np.zeros(sequence.size, bool)
        masks.append([_resized(found.get(number, empty), size) for number in ids])
    return Clip(np.stack(frames), np.array(masks, bool), sequence.name)


def _resized(mask: Any, size: int) -> Any:
    from PIL import Image

    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) > 127


@torch.no_grad()
def track_clip(sam2: Any, clip: Clip, kind: Kind, device: torch.device) -> torch.Tensor:
    """Track the objects of ``clip`` from their masks, clicks or boxes of the first frame.

    The model takes the size of the clip: a stage may train at another one.

    Returns:
        [T, N, S, S] bool.
    """
    set_image_size(sam2, clip.frames.shape[1])
    batch = batch_from_clips([clip], objects=clip.masks.shape[1])
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    truth = batch.masks[0].unsqueeze(1).to(device)
    results = []
    for index in range(batch.frame_count):
        encoded = sam2.forward_image(batch.images[index : index + 1].to(device))
        _, features, positions, sizes = sam2._prepare_backbone_features(encoded)
        count = truth.shape[0]
        output = sam2.track_step(
            frame_idx=index,
            is_init_cond_frame=index == 0,
            current_vision_feats=[level.expand(-1, count, -1) for level in features],
            current_vision_pos_embeds=[level.expand(-1, count, -1) for level in positions],
            feat_sizes=sizes,
            point_inputs=_exact_points(kind, truth) if index == 0 else None,
            mask_inputs=truth if index == 0 and kind == "mask" else None,
            output_dict=memory,
            num_frames=batch.frame_count,
        )
        memory["cond_frame_outputs" if index == 0 else "non_cond_frame_outputs"][index] = output
        memory["non_cond_frame_outputs"].pop(index - _MEMORY_FRAMES, None)
        results.append(output["pred_masks_high_res"][:, 0] > 0)
    return torch.stack(results).cpu()


def _exact_points(kind: Kind, masks: torch.Tensor) -> Points | None:
    from sam2.modeling.sam2_utils import get_next_point, sample_box_points

    if kind == "mask":
        return None
    if kind == "box":
        coords, labels = sample_box_points(masks, noise=0.0)
    else:
        coords, labels = get_next_point(masks, None, "center")
    return {"point_coords": coords, "point_labels": labels}


def _video_score(sam2: Any, clip: Clip, kind: Kind, device: torch.device) -> list[float]:
    """Return J&F of each object: the mean over all frames but the first and the last."""
    found = track_clip(sam2, clip, kind, device).numpy()
    frames = range(1, max(2, len(found) - 1))
    return [
        float(np.mean([_j_and_f(found[t, n], clip.masks[t, n]) for t in frames]))
        for n in range(found.shape[1])
    ]


def _j_and_f(found: Any, truth: Any) -> float:
    return 0.5 * (region_similarity(found, truth) + boundary_accuracy(found, truth))


def _box_score(sam2: Any, clip: Clip, device: torch.device) -> list[float]:
    first = Clip(clip.frames[:1], clip.masks[:1], clip.name)
    found = track_clip(sam2, first, "box", device)[0].numpy()
    return [region_similarity(found[n], first.masks[0, n]) for n in range(len(found))]
