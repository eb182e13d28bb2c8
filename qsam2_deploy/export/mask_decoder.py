"""The ``mask_decoder`` component: prompts and conditioned features to four candidate masks.

Follows upstream ``sam/prompt_encoder.py``, ``sam/transformer.py``, ``sam/mask_decoder.py`` and the
object pointers of ``SAM2Base._forward_sam_heads``. All four candidates are returned; which one
counts is decided by the runtime, where every official rule can hold. The padding point that
upstream appends to points is the caller's to give (label -1), so that a prompt by mask alone
(no point at all) is possible too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import MASK_DECODER, NUM_CANDIDATES, ModelSpec
from .arrays import array
from .graph import GraphBuilder, Tensor
from .layers import (
    attention,
    conv_stack,
    conv_transpose,
    gelu,
    layer_norm,
    layer_norm_2d,
    linear,
    mlp,
)
from .linear_weights import LinearWeights
from .position import dense_prompt_position


def build_mask_decoder(model: Any, spec: ModelSpec) -> GraphBuilder:
    """Return the graph of the prompt encoder and mask decoder of ``model``."""
    g = GraphBuilder(spec.component(MASK_DECODER))
    decoder, prompts = model.sam_mask_decoder, model.sam_prompt_encoder
    tokens = _tokens(g, decoder, prompts, spec)
    image = _image_tokens(g, prompts, spec)
    position = dense_prompt_position(
        g, _gaussian(g, prompts), spec.feature_size, name="dense_position"
    )
    tokens, image = _transformer(g, tokens, image, position, decoder.transformer)
    score, iou, *masks = (
        g.slice(tokens, [i], [i + 1], [1], name="tokens") for i in range(2 + NUM_CANDIDATES)
    )
    g.output("mask_logits", _masks(g, masks, image, decoder, spec))
    g.output(
        "ious",
        _head(g, iou, decoder.iou_prediction_head, NUM_CANDIDATES, name="iou_prediction_head"),
    )
    score = _head(g, score, decoder.pred_obj_score_head, 1, name="pred_obj_score_head")
    g.output("object_score", score)
    mask_tokens = g.concat(*masks, axis=1, name="mask_tokens")
    g.output("pointers", _pointers(g, mask_tokens, score, model))
    return g


def _head(g: GraphBuilder, token: Tensor, module: Any, width: int, *, name: str) -> Tensor:
    x = g.reshape(token, 0, -1, name=name)
    x = _mlp_or_linear(g, x, module, name=name)
    return g.reshape(x, -1, width, name=name)


def _mlp_or_linear(g: GraphBuilder, x: Tensor, module: Any, *, name: str) -> Tensor:
    if hasattr(module, "layers"):
        return mlp(g, x, module, name=name, activation="relu")
    return linear(g, x, module, name=name)


def _tokens(g: GraphBuilder, decoder: Any, prompts: Any, spec: ModelSpec) -> Tensor:
    """Object score, IoU and mask tokens, then the points: ``[B, 6 + P, C]``."""
    learned = np.concatenate(
        [array(t.weight) for t in (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)]
    )
    batch = g.op("Shape", g.input("has_mask"), name="output_tokens")
    shape = g.concat(batch, g.ints(1, 1), axis=0, name="output_tokens")
    output_tokens = g.op(
        "Expand", g.constant("output_tokens", learned[None]), shape, name="output_tokens"
    )
    return g.concat(output_tokens, _points(g, prompts, spec), axis=1, name="tokens")


def _gaussian(g: GraphBuilder, prompts: Any) -> Tensor:
    """The random frequencies of positions ``[2, C / 2]``."""
    name = "positional_encoding_gaussian_matrix"
    return g.constant(name, array(getattr(prompts.pe_layer, name)))


def _points(g: GraphBuilder, prompts: Any, spec: ModelSpec) -> Tensor:
    """Embeddings of the points ``[B, P, C]`` (upstream ``_embed_points`` without its padding)."""
    name = "points"
    # 2 (x + 0.5) / S - 1, then random frequencies
    x = g.add(g.input("point_coords"), g.scalar(0.5), name=name)
    x = g.op("Div", x, g.scalar(float(spec.image_size)), name=name)
    x = g.op("Sub", g.mul(x, g.scalar(2.0), name=name), g.scalar(1.0), name=name)
    x = g.op("MatMul", x, _gaussian(g, prompts), name=name)
    x = g.mul(x, g.scalar(float(2 * np.pi)), name=name)
    x = g.concat(g.op("Sin", x, name=name), g.op("Cos", x, name=name), axis=-1, name=name)
    labels = g.input("point_labels")
    padding = g.op("Equal", labels, g.constant("minus_one", np.int32(-1), np.int32), name=name)
    padding = g.op("Unsqueeze", padding, g.ints(2), name=name)
    x = g.op("Where", padding, g.scalar(0.0), x, name=name)
    table = np.concatenate(
        [array(prompts.not_a_point_embed.weight)]
        + [array(e.weight) for e in prompts.point_embeddings]
    )
    rows = g.op("Add", labels, g.constant("one", np.int32(1), np.int32), name="point_labels")
    kind = g.op("Gather", g.constant("point_embeddings", table), rows, name=name, axis=0)
    return g.add(x, kind, name=name)


def _image_tokens(g: GraphBuilder, prompts: Any, spec: ModelSpec) -> Tensor:
    """Conditioned features plus the dense prompt, as tokens ``[B, HW, C]``."""
    h, c = spec.feature_size, spec.d_model
    x = conv_stack(g, g.input("mask_input"), prompts.mask_downscaling, name="mask_downscaling")
    no_mask = g.constant("no_mask_embed", array(prompts.no_mask_embed.weight).reshape(1, c, 1, 1))
    has_mask = g.reshape(g.input("has_mask"), -1, 1, 1, 1, name="has_mask")
    dense = g.op("Where", has_mask, x, no_mask, name="dense_prompt")
    x = g.add(g.input("conditioned"), dense, name="dense_prompt")
    x = g.reshape(x, 0, c, h * h, name="image_tokens")
    return g.transpose(x, 0, 2, 1, name="image_tokens")


def _transformer(
    g: GraphBuilder, points: Tensor, image: Tensor, image_pe: Tensor, transformer: Any
) -> tuple[Tensor, Tensor]:
    """Upstream ``TwoWayTransformer``; returns the tokens and the image, both ``[B, n, C]``."""
    queries, keys = points, image
    for i, layer in enumerate(transformer.layers):
        queries, keys = _two_way_block(
            g, queries, keys, points, image_pe, layer, name=f"transformer.layers.{i}"
        )
    name = "transformer.final_attn_token_to_image"
    q = g.add(queries, points, name=name)
    k = g.add(keys, image_pe, name=name)
    y = _attention(g, q, k, keys, transformer.final_attn_token_to_image, name=name)
    queries = g.add(queries, y, name=name)
    return layer_norm(
        g, queries, transformer.norm_final_attn, name="transformer.norm_final_attn"
    ), keys


def _two_way_block(
    g: GraphBuilder,
    queries: Tensor,
    keys: Tensor,
    query_pe: Tensor,
    key_pe: Tensor,
    layer: Any,
    *,
    name: str,
) -> tuple[Tensor, Tensor]:
    """Upstream ``TwoWayAttentionBlock``: tokens to tokens, to image, MLP, image to tokens."""
    path = f"{name}.self_attn"
    if layer.skip_first_layer_pe:
        queries = _attention(g, queries, queries, queries, layer.self_attn, name=path)
    else:
        q = g.add(queries, query_pe, name=path)
        y = _attention(g, q, q, queries, layer.self_attn, name=path)
        queries = g.add(queries, y, name=path)
    queries = layer_norm(g, queries, layer.norm1, name=f"{name}.norm1")

    path = f"{name}.cross_attn_token_to_image"
    q, k = g.add(queries, query_pe, name=path), g.add(keys, key_pe, name=path)
    y = _attention(g, q, k, keys, layer.cross_attn_token_to_image, name=path)
    queries = layer_norm(g, g.add(queries, y, name=path), layer.norm2, name=f"{name}.norm2")

    path = f"{name}.mlp"
    y = mlp(g, queries, layer.mlp, name=path, activation="relu")
    queries = layer_norm(g, g.add(queries, y, name=path), layer.norm3, name=f"{name}.norm3")

    path = f"{name}.cross_attn_image_to_token"
    q = g.add(queries, query_pe, name=path)
    y = _attention(g, k, q, queries, layer.cross_attn_image_to_token, name=path)
    keys = layer_norm(g, g.add(keys, y, name=path), layer.norm4, name=f"{name}.norm4")
    return queries, keys


def _attention(g: GraphBuilder, q: Tensor, k: Tensor, v: Tensor, attn: Any, *, name: str) -> Tensor:
    """Upstream ``sam.transformer.Attention`` on ``[B, n, C]``."""
    heads, width = attn.num_heads, attn.internal_dim // attn.num_heads
    factors = np.full(attn.internal_dim, width**-0.5, np.float32)
    query = LinearWeights(attn.q_proj).scale_outputs(factors)

    def split_heads(x: Tensor, *perm: int, path: str) -> Tensor:
        x = g.reshape(x, 0, -1, heads, width, name=path)
        return g.transpose(x, *perm, name=path)

    y = attention(
        g,
        split_heads(linear(g, q, query, name=f"{name}.q_proj"), 0, 2, 1, 3, path=f"{name}/q"),
        split_heads(linear(g, k, attn.k_proj, name=f"{name}.k_proj"), 0, 2, 3, 1, path=f"{name}/k"),
        split_heads(linear(g, v, attn.v_proj, name=f"{name}.v_proj"), 0, 2, 1, 3, path=f"{name}/v"),
        name=name,
    )
    y = g.transpose(y, 0, 2, 1, 3, name=f"{name}/context")
    y = g.reshape(y, 0, -1, attn.internal_dim, name=f"{name}/context")
    return linear(g, y, attn.out_proj, name=f"{name}.out_proj")


def _masks(
    g: GraphBuilder, tokens: list[Tensor], image: Tensor, decoder: Any, spec: ModelSpec
) -> Tensor:
    """Upscale the image and multiply it with one hyper-network output per candidate."""
    h, c = spec.feature_size, spec.d_model
    x = g.transpose(image, 0, 2, 1, name="output_upscaling")
    x = g.reshape(x, 0, c, h, h, name="output_upscaling")
    first, norm, _, second, _ = decoder.output_upscaling
    x = conv_transpose(g, x, first, name="output_upscaling.0")
    x = g.add(x, g.input("high_res_1"), name="output_upscaling.0")
    x = gelu(g, layer_norm_2d(g, x, norm, name="output_upscaling.1"), name="output_upscaling.2")
    x = conv_transpose(g, x, second, name="output_upscaling.3")
    x = g.add(x, g.input("high_res_0"), name="output_upscaling.3")
    x = gelu(g, x, name="output_upscaling.4")
    x = g.reshape(x, 0, c // 8, 16 * h * h, name="output_upscaling")
    hyper = [
        mlp(g, token, module, name=f"output_hypernetworks_mlps.{i}", activation="relu")
        for i, (token, module) in enumerate(
            zip(tokens, decoder.output_hypernetworks_mlps, strict=True)
        )
    ]
    weights = g.concat(*hyper, axis=1, name="output_hypernetworks_mlps")
    logits = g.op("MatMul", weights, x, name="mask_logits")
    return g.reshape(logits, 0, NUM_CANDIDATES, 4 * h, 4 * h, name="mask_logits")


def _pointers(g: GraphBuilder, tokens: Tensor, score: Tensor, model: Any) -> Tensor:
    """Object pointers of the candidates ``[B, 4, C]``, with the no-object rule applied."""
    x = _mlp_or_linear(g, tokens, model.obj_ptr_proj, name="obj_ptr_proj")
    name = "no_obj_ptr"
    if model.soft_no_obj_ptr:
        visible = g.op("Sigmoid", score, name=name)
    else:
        positive = g.op("Greater", score, g.scalar(0.0), name=name)
        visible = g.op("Cast", positive, name=name, to=1)
    visible = g.op("Unsqueeze", visible, g.ints(2), name=name)
    if model.fixed_no_obj_ptr:
        x = g.mul(visible, x, name=name)
    absent = g.op("Sub", g.scalar(1.0), visible, name=name)
    no_object = g.mul(absent, g.constant(name, array(model.no_obj_ptr)), name=name)
    return g.add(x, no_object, name=name)
