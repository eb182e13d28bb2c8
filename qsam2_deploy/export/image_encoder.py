"""The ``image_encoder`` component: Hiera trunk, feature pyramid and the decoder's two projections.

Follows upstream ``backbones/hieradet.py``, ``backbones/image_encoder.py`` and
``SAM2Base.forward_image``. All shapes are fixed by the image size, so window padding is static.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import IMAGE_ENCODER, ModelSpec
from .graph import GraphBuilder, Tensor
from .layers import attention, conv, layer_norm, linear, linear_parts, mlp
from .linear_algebra import are_float, folded_convs
from .linear_weights import LinearWeights, Pointwise
from .position import bicubic_position
from .quantized_attention import product_steps


def build_image_encoder(model: Any, spec: ModelSpec) -> GraphBuilder:
    """Return the graph of the image encoder of ``model`` (upstream ``SAM2Base``)."""
    g = GraphBuilder(spec.component(IMAGE_ENCODER))
    levels = _trunk(g, model.image_encoder.trunk, spec)
    _neck(g, model, levels, spec)
    return g


def _trunk(g: GraphBuilder, trunk: Any, spec: ModelSpec) -> list[Tensor]:
    """Return the feature map at the end of each stage, NHWC."""
    size = spec.image_size // 4
    x = conv(g, g.input("image"), trunk.patch_embed.proj, name="trunk.patch_embed.proj")
    x = g.transpose(x, 0, 2, 3, 1, name="trunk.patch_embed")
    position = bicubic_position(
        g, trunk.pos_embed, trunk.pos_embed_window, size, size, name="trunk"
    )
    x = g.add(x, position, name="trunk.pos_embed")
    levels = []
    for i, block in enumerate(trunk.blocks):
        x, size = _block(g, x, size, block, name=f"trunk.blocks.{i}")
        if i in trunk.stage_ends:
            levels.append(x)
    return levels


def _block(g: GraphBuilder, x: Tensor, size: int, block: Any, *, name: str) -> tuple[Tensor, int]:
    """One ``MultiScaleBlock`` on ``[1, size, size, dim]``; returns its output and new size."""
    stride = block.q_stride[0] if block.q_stride else 1
    shortcut, x = x, layer_norm(g, x, block.norm1, name=f"{name}.norm1")
    if block.dim != block.dim_out:
        shortcut = linear(g, x, block.proj, name=f"{name}.proj")
        if block.pool:
            shortcut = _max_pool(g, shortcut, 1, size, block.dim_out, name=f"{name}.pool")
    window = block.window_size or size
    padded = -(-size // window) * window
    x = _to_windows(g, x, size, window, block.dim, name=f"{name}/windows")
    x = _attention(g, x, (padded // window) ** 2, window, block.attn, name=f"{name}.attn")
    window, size = window // stride, size // stride
    padded = -(-size // window) * window
    x = _from_windows(g, x, size, padded, window, block.dim_out, name=f"{name}/windows")
    x = g.add(shortcut, x, name=f"{name}/residual")
    hidden = mlp(
        g,
        layer_norm(g, x, block.norm2, name=f"{name}.norm2"),
        block.mlp,
        name=f"{name}.mlp",
        activation="gelu",
    )
    return g.add(x, hidden, name=f"{name}/residual"), size


def _to_windows(
    g: GraphBuilder, x: Tensor, size: int, window: int, dim: int, *, name: str
) -> Tensor:
    """``[1, size, size, dim]`` to ``[windows, window ** 2, dim]``, zero-padded at the end."""
    count = -(-size // window)
    pad = count * window - size
    if pad:
        x = g.op("Pad", x, g.ints(0, 0, 0, 0, 0, pad, pad, 0), name=name)
    if count > 1:
        x = g.reshape(x, count, window, count, window, dim, name=name)
        x = g.transpose(x, 0, 2, 1, 3, 4, name=name)
    return g.reshape(x, count * count, window * window, dim, name=name)


def _from_windows(
    g: GraphBuilder, x: Tensor, size: int, padded: int, window: int, dim: int, *, name: str
) -> Tensor:
    """``[windows, window ** 2, dim]`` back to ``[1, size, size, dim]``."""
    count = padded // window
    if count > 1:
        x = g.reshape(x, count, count, window, window, dim, name=name)
        x = g.transpose(x, 0, 2, 1, 3, 4, name=name)
    x = g.reshape(x, 1, padded, padded, dim, name=name)
    if padded > size:
        x = g.slice(x, [0, 0], [size, size], [1, 2], name=name)
    return x


def _max_pool(g: GraphBuilder, x: Tensor, batch: int, size: int, dim: int, *, name: str) -> Tensor:
    """2x2 max pooling of ``[batch, size, size, dim]`` without leaving NHWC."""
    half = size // 2
    x = g.reshape(x, batch, half, 2, half, 2 * dim, name=name)
    left_right = [g.slice(x, [k * dim], [(k + 1) * dim], [4], name=name) for k in (0, 1)]
    x = g.op("Max", *left_right, name=name)
    top_bottom = [g.slice(x, [k], [k + 1], [2], name=name) for k in (0, 1)]
    x = g.op("Max", *top_bottom, name=name)
    return g.reshape(x, batch, half, half, dim, name=name)


def _attention(
    g: GraphBuilder, x: Tensor, batch: int, window: int, attn: Any, *, name: str
) -> Tensor:
    """``MultiScaleAttention`` on ``[batch, window ** 2, dim]``."""
    dim, heads = attn.dim_out, attn.num_heads
    width, tokens = dim // heads, window * window
    qkv = LinearWeights(attn.qkv).scale_outputs(_query_factors(dim, width))
    q, k, v = linear_parts(g, x, qkv, 3, name=f"{name}.qkv")
    queries = tokens
    if attn.q_pool:
        # Max pooling commutes with the positive factor 1/sqrt(width) in the weights.
        q = g.reshape(q, batch, window, window, dim, name=f"{name}/q_pool")
        q = _max_pool(g, q, batch, window, dim, name=f"{name}/q_pool")
        queries = tokens // 4
    q = _split_heads(g, q, (batch, queries, heads, width), name=f"{name}/q")
    k = _split_heads(g, k, (batch, tokens, heads, width), name=f"{name}/k", transposed=True)
    v = _split_heads(g, v, (batch, tokens, heads, width), name=f"{name}/v")
    context = attention(g, q, k, v, product_steps(attn, width**-0.5), name=name)
    if heads > 1:
        context = g.transpose(context, 0, 2, 1, 3, name=f"{name}/context")
    context = g.reshape(context, batch, queries, dim, name=f"{name}/context")
    return linear(g, context, attn.proj, name=f"{name}.proj")


def _split_heads(
    g: GraphBuilder,
    x: Tensor,
    shape: tuple[int, int, int, int],
    *,
    name: str,
    transposed: bool = False,
) -> Tensor:
    """``[batch, tokens, heads * width]`` to ``[batch, heads, tokens, width]``, or transposed.

    A single head needs no axis of its own, which saves a copy of the largest maps.
    """
    batch, tokens, heads, width = shape
    if heads == 1:
        x = g.reshape(x, batch, tokens, width, name=name)
        return g.transpose(x, 0, 2, 1, name=name) if transposed else x
    x = g.reshape(x, batch, tokens, heads, width, name=name)
    order = (0, 2, 3, 1) if transposed else (0, 2, 1, 3)
    return g.transpose(x, *order, name=name)


def _query_factors(dim: int, width: int) -> Any:
    factors = np.ones(3 * dim, np.float32)
    factors[:dim] = width**-0.5
    return factors


def _neck(g: GraphBuilder, model: Any, levels: list[Tensor], spec: ModelSpec) -> None:
    """Lateral projections of the stages, top-down sum on the third, and the three outputs."""
    convs = [stage.conv for stage in model.image_encoder.neck.convs]  # from the last stage on
    h = spec.feature_size
    top = _project(g, levels[3], h // 2, (convs[0], "neck.convs.0.conv"))
    features = _project(g, levels[2], h, (convs[1], "neck.convs.1.conv"))
    scales = g.constant("neck.scales", [1, 1, 2, 2])
    top = g.op(
        "Resize",
        top,
        "",
        scales,
        name="neck",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    g.output("features", g.add(features, top, name="neck"))
    decoder = model.sam_mask_decoder
    for i, stage, second in ((0, 3, decoder.conv_s0), (1, 2, decoder.conv_s1)):
        names = (f"neck.convs.{stage}.conv", f"conv_s{i}")
        pair: tuple[tuple[Pointwise, str], ...] = ((convs[stage], names[0]), (second, names[1]))
        if are_float(convs[stage], second):
            pair = ((folded_convs(convs[stage], second), f"neck.high_res_{i}"),)
        size = 2 * h * (2 - i)
        g.output(f"high_res_{i}", _project(g, levels[i], size, *pair))


def _project(g: GraphBuilder, x: Tensor, size: int, *layers: tuple[Pointwise, str]) -> Tensor:
    """1x1 convolutions of an NHWC map, with their names, as linear layers; the result is NCHW."""
    first, name = layers[0]
    x = g.reshape(x, 1, size * size, first.weight.shape[1], name=name)
    for layer, name in layers:
        x = linear(g, x, layer, name=name)
    x = g.transpose(x, 0, 2, 1, name=name)
    return g.reshape(x, 1, len(layers[-1][0].weight), size, size, name=name)
