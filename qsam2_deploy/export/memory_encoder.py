"""The ``memory_encoder`` component: features and the chosen mask to one memory frame.

Follows upstream ``SAM2Base._encode_new_memory`` and ``memory_encoder.py``. It takes the mask at
low resolution and enlarges it itself, as upstream does between its decoder and its memory encoder.
"""

from __future__ import annotations

from typing import Any

from ..spec import MEMORY_ENCODER, ModelSpec
from .arrays import array
from .graph import GraphBuilder, Tensor
from .layers import conv, conv_stack, gelu, layer_norm, linear


def build_memory_encoder(model: Any, spec: ModelSpec) -> GraphBuilder:
    """Return the graph of the memory encoder of ``model`` (upstream ``SAM2Base``)."""
    g = GraphBuilder(spec.component(MEMORY_ENCODER))
    encoder = model.memory_encoder
    x = conv(g, g.input("features"), encoder.pix_feat_proj, name="pix_feat_proj")
    mask = conv_stack(
        g,
        _mask_for_memory(g, model),
        encoder.mask_downsampler.encoder,
        name="mask_downsampler.encoder",
    )
    x = g.add(x, mask, name="fuser")
    for i, layer in enumerate(encoder.fuser.layers):
        x = _convnext_block(g, x, layer, name=f"fuser.layers.{i}")
    if hasattr(encoder.out_proj, "weight"):
        x = conv(g, x, encoder.out_proj, name="out_proj")
    if model.no_obj_embed_spatial is not None:
        x = g.add(x, _no_object(g, model), name="no_obj_embed_spatial")
    g.output("memory", x)
    return g


def _mask_for_memory(g: GraphBuilder, model: Any) -> Tensor:
    """Probabilities (or hard choices, on frames with points) times scale plus bias."""
    name = "mask"
    scales = g.constant("mask.scales", [1, 1, 4, 4])
    logits = g.op(
        "Resize",
        g.input("mask_logits"),
        "",
        scales,
        name=name,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    hard = g.op("Greater", logits, g.scalar(0.0), name=name)
    hard = g.op("Cast", hard, name=name, to=1)
    soft = g.op("Sigmoid", logits, name=name)
    from_points = g.reshape(g.input("from_points"), -1, 1, 1, 1, name="from_points")
    x = g.op("Where", from_points, hard, soft, name=name)
    x = g.mul(x, g.scalar(float(model.sigmoid_scale_for_mem_enc)), name=name)
    return g.add(x, g.scalar(float(model.sigmoid_bias_for_mem_enc)), name=name)


def _convnext_block(g: GraphBuilder, x: Tensor, layer: Any, *, name: str) -> Tensor:
    """Upstream ``CXBlock`` on NCHW."""
    y = conv(g, x, layer.dwconv, name=f"{name}.dwconv")
    y = g.transpose(y, 0, 2, 3, 1, name=name)
    y = layer_norm(g, y, layer.norm, name=f"{name}.norm")
    y = gelu(g, linear(g, y, layer.pwconv1, name=f"{name}.pwconv1"), name=f"{name}.act")
    y = linear(g, y, layer.pwconv2, name=f"{name}.pwconv2")
    if layer.gamma is not None:
        y = g.mul(g.constant(f"{name}.gamma", array(layer.gamma)), y, name=f"{name}.gamma")
    return g.add(x, g.transpose(y, 0, 3, 1, 2, name=name), name=name)


def _no_object(g: GraphBuilder, model: Any) -> Tensor:
    """``no_obj_embed_spatial`` where the object is absent, ``[B, M, 1, 1]``."""
    name = "no_obj_embed_spatial"
    absent = g.op("LessOrEqual", g.input("object_score"), g.scalar(0.0), name=name)
    absent = g.op("Cast", absent, name=name, to=1)
    product = g.mul(absent, g.constant(name, array(model.no_obj_embed_spatial)), name=name)
    return g.op("Unsqueeze", product, g.ints(2, 3), name=name)
