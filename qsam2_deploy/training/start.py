"""Where the weights of a model that is trained from scratch start.

SAM2 starts from an encoder pretrained on images and from SAM. A small model on little data has
neither; the starts below replace what it would take long to find by itself. They change numbers
only, never the architecture, and are ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_PRESENT_LOGIT = 4.0
_POSITION_GAIN = 2.0
_NOISE = 0.02


@torch.no_grad()
def start_from_scratch(sam2: Any) -> None:
    """Set the starting weights of ``sam2`` in place."""
    _objects_are_present(sam2)
    _prompts_find_their_position(sam2)
    _memory_is_matched_by_content(sam2)


def _objects_are_present(sam2: Any) -> None:
    """Start the object score at "present".

    An object that is predicted absent gets masks of -1024, which pass no gradient.
    """
    head = sam2.sam_mask_decoder.pred_obj_score_head
    last = head.layers[-1] if hasattr(head, "layers") else head
    nn.init.constant_(last.bias, _PRESENT_LOGIT)


def _prompts_find_their_position(sam2: Any) -> None:
    """Make the decoder's attention between prompts and image start as a search for the position.

    Prompts and pixels carry the same random Fourier code: sines in the first half of the channels
    and cosines in the second. Each head compares a few (sine, cosine) pairs, and
    sin a sin b + cos a cos b = cos(a - b) is largest where the positions agree.
    """
    transformer = sam2.sam_mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        weight = _fourier_pairs(
            attention.internal_dim, attention.embedding_dim, attention.num_heads
        )
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(weight + _NOISE * torch.randn_like(weight))
            nn.init.zeros_(projection.bias)


def _fourier_pairs(rows: int, width: int, heads: int) -> torch.Tensor:
    weight = torch.zeros(rows, width)
    frequencies = width // 2
    order = torch.randperm(frequencies)
    per_head = rows // heads
    for head in range(heads):
        for pair in range(per_head // 2):
            chosen = order[(head * (per_head // 2) + pair) % frequencies]
            row = head * per_head + 2 * pair
            weight[row, chosen] = _POSITION_GAIN
            weight[row + 1, chosen + frequencies] = _POSITION_GAIN
    return weight


def _memory_is_matched_by_content(sam2: Any) -> None:
    """Make the memory attention start as a search for similar features.

    The memory keeps a random projection R of the features (orthonormal rows); keys are lifted back
    with its transpose, so that q.k starts as the similarity of a pixel's features with remembered
    ones, and what is remembered of the mask comes along as the value.
    """
    encoder = sam2.memory_encoder
    if not isinstance(encoder.out_proj, nn.Conv2d):
        return  # a memory as wide as the features keeps all of them
    projection = torch.empty(encoder.out_proj.weight.shape[:2])
    nn.init.orthogonal_(projection)
    _set_conv(encoder.out_proj, projection)
    _set_conv(encoder.pix_feat_proj, torch.eye(projection.shape[1]))
    for layer in sam2.memory_attention.layers:
        attention = layer.cross_attn_image
        attention.q_proj.weight.copy_(torch.eye(projection.shape[1]))
        attention.k_proj.weight.copy_(projection.T)
        nn.init.zeros_(attention.q_proj.bias)
        nn.init.zeros_(attention.k_proj.bias)


def _set_conv(conv: nn.Conv2d, weight: torch.Tensor) -> None:
    conv.weight.copy_(weight[:, :, None, None])
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
