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
_POSITION_GAIN = 4.0
_MARK = 6.0
_MARKED = 5.0
_HANDICAP = 3.5
_SELF_GAIN = 1.5
_QUIET = 0.1
_QUIET_CONTENT = 0.6
_QUIET_BRANCH = 0.3
_NOISE = 0.02


@torch.no_grad()
def start_from_scratch(sam2: Any) -> None:
    """Set the starting weights of ``sam2`` in place."""
    _objects_are_present(sam2)
    _prompts_mark_their_position(sam2)
    _memory_is_matched_by_content(sam2)


def _objects_are_present(sam2: Any) -> None:
    """Start the object score at "present".

    An object that is predicted absent gets masks of -1024, which pass no gradient.
    """
    set_object_bias(sam2, _PRESENT_LOGIT)


@torch.no_grad()
def set_object_bias(sam2: Any, logit: float) -> None:
    """Set the bias of the object score, the logit of a decoder that knows nothing."""
    head = getattr(sam2.sam_mask_decoder, "pred_obj_score_head", None)
    if head is None:
        return  # every object is present
    last = head.layers[-1] if hasattr(head, "layers") else head
    nn.init.constant_(last.bias, logit)


def _prompts_mark_their_position(sam2: Any) -> None:
    """Make the decoder start by marking the pixels near a click.

    Prompts and pixels carry the same random Fourier code: sines in the first half of the channels
    and cosines in the second. Each head of the attention between tokens and image compares a few
    (sine, cosine) pairs, and sin a sin b + cos a cos b = cos(a - b) is largest where the positions
    agree. Pixels near a positive click so find its token, and read from it a mark, which is added
    to their features; a negative click gives the opposite mark. Whatever else tokens hold starts
    in channels that are not compared.

    Without this a model learns first to mask everything that looks like an object, whatever the
    prompt, and takes very long to leave that.
    """
    decoder = sam2.sam_mask_decoder
    layers = decoder.transformer.layers
    attention = decoder.transformer.final_attn_token_to_image
    pairs, free = _fourier_pairs(attention)
    marks = _set_labels(sam2.sam_prompt_encoder, free)
    _keep_to_channels(decoder, free)
    _tokens_keep_to_themselves(layers[0].self_attn)
    attentions = [attention]
    for layer in layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        _quieten(layer)
    for attention in attentions:
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(pairs + _NOISE * torch.randn_like(pairs))
            nn.init.zeros_(projection.bias)
    # Fine features show what is an object, the coarse ones hold the marks: these must come first.
    if decoder.use_high_res_features:
        for fine in (decoder.conv_s0, decoder.conv_s1):
            fine.weight.mul_(_QUIET)
            nn.init.zeros_(fine.bias)
    for layer in layers:
        _pixels_read_marks(layer.cross_attn_image_to_token, marks)


def _fourier_pairs(attention: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a projection on pairs of the code, and which channels it leaves out: [C] bool."""
    width, rows, heads = attention.embedding_dim, attention.internal_dim, attention.num_heads
    frequencies, per_head = width // 2, rows // heads
    order = torch.randperm(frequencies)
    weight = torch.zeros(rows, width)
    pairs = max(1, per_head // 2 - 1)  # the last two channels of a head are for its threshold
    for head in range(heads):
        for pair in range(pairs):
            chosen = order[(head * pairs + pair) % frequencies]
            row = head * per_head + 2 * pair
            weight[row, chosen] = _POSITION_GAIN
            weight[row + 1, chosen + frequencies] = _POSITION_GAIN
    return weight, weight.abs().sum(0) == 0


def _set_labels(prompts: Any, free: torch.Tensor) -> torch.Tensor:
    """Set the labels of points and return the marks of clicks and of box corners: [2, C]."""
    marks = torch.randn(2, len(free)) * free
    marks = nn.functional.normalize(marks, dim=1)
    negative, positive, *corners = prompts.point_embeddings
    negative.weight.copy_(-_MARK * marks[:1])
    positive.weight.copy_(_MARK * marks[:1])
    for number, corner in enumerate(corners):
        other = nn.functional.normalize(torch.randn(len(free)) * free, dim=0)
        corner.weight.copy_(_MARK * (marks[1] + (number - 0.5) * other)[None])
    prompts.not_a_point_embed.weight.mul_(free)
    prompts.no_mask_embed.weight.mul_(_QUIET)
    return marks


def _keep_to_channels(decoder: Any, free: torch.Tensor) -> None:
    tokens = [decoder.iou_token, decoder.mask_tokens]
    if decoder.pred_obj_scores:
        tokens.append(decoder.obj_score_token)
    for token in tokens:
        token.weight.mul_(free)


def _tokens_keep_to_themselves(attention: Any) -> None:
    """Make an attention between tokens pass them on as they are."""
    for projection, gain in (
        (attention.q_proj, _SELF_GAIN),
        (attention.k_proj, _SELF_GAIN),
        (attention.v_proj, 1.0),
        (attention.out_proj, 1.0),
    ):
        projection.weight.copy_(gain * torch.eye(projection.weight.shape[0]))
        nn.init.zeros_(projection.bias)


def _quieten(layer: Any) -> None:
    """Let codes and marks stand out from what a layer adds."""
    for norm in (layer.norm1, layer.norm3, layer.norm4):
        norm.weight.fill_(_QUIET_CONTENT)
    branches = (layer.cross_attn_token_to_image.out_proj, layer.mlp.layers[-1])
    for branch in branches:
        branch.weight.mul_(_QUIET_BRANCH)
        branch.bias.mul_(_QUIET_BRANCH)


def _pixels_read_marks(attention: Any, marks: torch.Tensor) -> None:
    """Make each head copy the tokens' marks to one direction of the pixels' features each.

    Marked tokens start with a handicap, so that only pixels whose code fits well choose them.
    """
    per_head = attention.internal_dim // attention.num_heads
    last = torch.arange(1, attention.num_heads + 1) * per_head - 1
    attention.q_proj.bias[last] = 1.0
    attention.k_proj.weight[last] = -_HANDICAP * marks.sum(0)
    directions = nn.functional.normalize(torch.randn(len(marks), marks.shape[1]), dim=1)
    attention.v_proj.weight.mul_(_QUIET)
    attention.out_proj.weight.mul_(_QUIET)
    for number, (mark, direction) in enumerate(zip(marks, directions, strict=True)):
        rows = torch.arange(attention.num_heads) * per_head + number
        attention.v_proj.weight[rows] = mark
        attention.out_proj.weight[:, rows] = _MARKED * direction[:, None] / attention.num_heads


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
