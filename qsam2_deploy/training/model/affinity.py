"""A dense auxiliary loss that teaches the encoder what belongs together.

SAM2's own losses, from random weights, stay at the all-background mask for long. Here every pixel
of the feature pyramid gets a unit vector, and for a few anchor pixels the dot product must tell
which pixels of their own frame, and of another frame of the clip, belong to the same object. The
head is dropped after training. This loss is ours; no official recipe has it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..inputs.batch import ClipBatch

_HIDDEN, _WIDTH = 64, 32
_ANCHORS = 32
_BACKGROUND_SHARE = 0.3
_SMALLEST_SHARE = 0.02


class AffinityHead(nn.Module):
    """Pixel embeddings on the feature pyramid and their pairwise loss."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        widths = (d_model // 8, d_model // 4, d_model)
        self.levels = nn.ModuleList([nn.Conv2d(width, _HIDDEN, 1) for width in widths])
        self.head = nn.Sequential(
            nn.GELU(), nn.Conv2d(_HIDDEN, _HIDDEN, 1), nn.GELU(), nn.Conv2d(_HIDDEN, _WIDTH, 1)
        )
        # Of the cosines, for the pyramid and for the decoder's mask features.
        self.scale = nn.Parameter(torch.tensor([10.0, 10.0]))
        self.bias = nn.Parameter(torch.tensor([-5.0, -5.0]))

    def mask_feature_loss(self, features: torch.Tensor, batch: ClipBatch) -> torch.Tensor:
        """Return the loss of the decoder's mask features in the first frame: [N, C / 8, h, w].

        A mask is the dot product of these features with a vector that the decoder makes from the
        prompt. Where the features tell objects apart, that vector is found fast; where neither is
        there yet, both have next to no gradient.
        """
        pixels = F.normalize(features.float().flatten(2), dim=1)[None]
        ids = object_ids(batch, features.shape[-2:])[0, batch.clip_of].flatten(1)[None]
        return self._pair_loss(pixels, ids, pixels, ids, 1)

    def forward(self, pyramid: list[torch.Tensor], batch: ClipBatch) -> torch.Tensor:
        """Return the loss of ``pyramid``: maps [T * B, C, h, w] of strides 4, 8 and 16."""
        embedded = self._embed(pyramid)
        ids = object_ids(batch, embedded.shape[-2:])
        frames, clips = batch.frame_count, batch.clip_count
        pixels = embedded.flatten(2).reshape(frames, clips, _WIDTH, -1)
        ids = ids.flatten(2)
        loss = self._pair_loss(pixels, ids, pixels, ids, 0)
        if frames > 1:
            # From frame t to t + 1 and from the last to the first: near and far in time.
            later = self._pair_loss(pixels, ids, pixels.roll(-1, 0), ids.roll(-1, 0), 0)
            loss = 0.5 * (loss + later)
        return loss

    def _embed(self, pyramid: list[torch.Tensor]) -> torch.Tensor:
        size = pyramid[0].shape[-2:]
        maps = [level(features) for level, features in zip(self.levels, pyramid, strict=True)]
        summed = maps[0]
        for features in maps[1:]:
            summed = summed + F.interpolate(
                features, size=size, mode="bilinear", align_corners=False
            )
        return F.normalize(self.head(summed).float(), dim=1)

    def _pair_loss(
        self,
        anchor_pixels: torch.Tensor,
        anchor_ids: torch.Tensor,
        pixels: torch.Tensor,
        ids: torch.Tensor,
        which: int,
    ) -> torch.Tensor:
        """Return the loss between anchors of one frame and all pixels of another.

        Args:
            anchor_pixels: [T, B, E, P] unit vectors.
            anchor_ids: [T, B, P] int64, 0 for the background.
            pixels: [T, B, E, P].
            ids: [T, B, P].
            which: scale and bias to use.
        """
        a_pixels, a_ids = anchor_pixels.flatten(0, 1), anchor_ids.flatten(0, 1)
        chosen = torch.multinomial(_anchor_weights(a_ids), _ANCHORS)
        anchors = a_pixels.gather(2, chosen[:, None].expand(-1, a_pixels.shape[1], -1))
        same = (a_ids.gather(1, chosen)[:, :, None] == ids.flatten(0, 1)[:, None]).float()
        logits = torch.einsum("bea,bep->bap", anchors, pixels.flatten(0, 1))
        logits = logits * self.scale[which] + self.bias[which]
        probability = logits.sigmoid()
        overlap = 2 * (probability * same).sum(-1) + 1
        dice = 1 - overlap / (probability.sum(-1) + same.sum(-1) + 1)
        return 2 * F.binary_cross_entropy_with_logits(logits, same) + dice.mean()


def object_ids(batch: ClipBatch, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """Return at each point of an h x w grid the object there: [T, B, h, w] int64, 0 for none."""
    height, width = size
    step_y, step_x = batch.masks.shape[-2] // height, batch.masks.shape[-1] // width
    masks = batch.masks[:, :, step_y // 2 :: step_y, step_x // 2 :: step_x]
    ids = torch.zeros(
        (batch.frame_count, batch.clip_count, height, width), dtype=torch.int64, device=masks.device
    )
    for number, clip in enumerate(batch.clip_of.tolist()):
        ids[:, clip][masks[:, number]] = number + 1
    return ids


def _anchor_weights(ids: torch.Tensor) -> torch.Tensor:
    """Return sampling weights [B, P]: about three anchors on objects for one on the background."""
    inside = (ids > 0).float()
    share = inside.mean(1, keepdim=True)
    on_objects = inside / share.clamp(min=_SMALLEST_SHARE)
    outside = (1 - inside) * _BACKGROUND_SHARE / (1 - share).clamp(min=_SMALLEST_SHARE)
    return on_objects + outside
