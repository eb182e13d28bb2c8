"""Clips as the tensors of one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...data.sample import Clip
from ...spec import ModelSpec


@dataclass(frozen=True)
class ClipBatch:
    """A batch of B clips of T frames with N objects in all.

    Attributes:
        images: [T * B, 3, S, S] float32, normalised; frame t of clip b is at t * B + b.
        masks: [T, N, S, S] bool.
        clip_of: [N] int64, the clip of each object.
        labelled: [N] bool; the masks of the others only tell where to prompt.
        frame_count: T.
        clip_count: B.
        names: where each clip comes from.
    """

    images: torch.Tensor
    masks: torch.Tensor
    clip_of: torch.Tensor
    labelled: torch.Tensor
    frame_count: int
    clip_count: int
    names: tuple[str, ...] = ()

    def images_of(self, frame: int) -> torch.Tensor:
        """Return for each object the index of its image of ``frame``: [N] int64."""
        return self.clip_of + frame * self.clip_count

    def to(self, device: torch.device) -> ClipBatch:
        """Return the batch on ``device``."""
        return ClipBatch(
            self.images.to(device, non_blocking=True),
            self.masks.to(device, non_blocking=True),
            self.clip_of.to(device, non_blocking=True),
            self.labelled.to(device, non_blocking=True),
            self.frame_count,
            self.clip_count,
            self.names,
        )


def batch_from_clips(clips: Sequence[Clip], *, objects: int) -> ClipBatch:
    """Stack clips of the same number and size of frames, with up to ``objects`` objects each."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips], axis=1))
    mean, std = torch.tensor(ModelSpec.mean), torch.tensor(ModelSpec.std)
    images = (frames.float() / 255.0 - mean) / std
    masks = [clip.masks[:, :objects] for clip in clips]
    clip_of = [torch.full((m.shape[1],), b, dtype=torch.int64) for b, m in enumerate(masks)]
    return ClipBatch(
        images=images.permute(0, 1, 4, 2, 3).flatten(0, 1).contiguous(),
        masks=torch.from_numpy(np.concatenate(masks, axis=1)),
        clip_of=torch.cat(clip_of),
        labelled=torch.tensor([clip.labelled for clip in clips])[torch.cat(clip_of)],
        frame_count=int(frames.shape[0]),
        clip_count=len(clips),
        names=tuple(clip.name for clip in clips),
    )
