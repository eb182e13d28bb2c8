"""The ``memory_attention`` component: the frame's features attend to memories and pointers.

Follows upstream ``memory_attention.py`` and the assembly of tokens and positions in
``SAM2Base._prepare_memory_conditioned_features``. Exact rewrites:

- RoPE in real arithmetic: the rows of the q and k projections are permuted once, so that the
  pairs that upstream rotates as complex numbers lie in two halves.
- V after the attention: the rows of a softmax sum to 1, so
  ``softmax(q kᵀ) (m W_vᵀ + b_v) = (softmax(q kᵀ) m) W_vᵀ + b_v``, which attends in the memory's 64
  dimensions instead of 256. Quantized, m is on its grid before the attention, and ``W_v`` is
  multiplied with floats. In float, ``W_v`` and the output projection are one matrix. A quantized
  attention product keeps this: its weights sum to 1 too.

On demand the memory tokens are pooled, which is no exact rewrite: see :mod:`.pooled_memory`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..spec import MEMORY_ATTENTION, ModelSpec
from .arrays import array
from .graph import GraphBuilder, Tensor
from .layers import attention, layer_norm, linear, product
from .linear_algebra import absorbed_values, are_float
from .linear_weights import LinearWeights
from .pooled_memory import pooled_frames, pooled_table, score_shift, widened
from .position import rope_2d, sine_2d
from .quantized import fake_quantized
from .quantized_attention import product_steps


def build_memory_attention(model: Any, spec: ModelSpec) -> GraphBuilder:
    """Return the graph of the memory attention of ``model`` (upstream ``SAM2Base``)."""
    g = GraphBuilder(spec.component(MEMORY_ATTENTION))
    h, c = spec.feature_size, spec.d_model
    x = g.reshape(g.input("features"), 1, c, h * h, name="input")
    x = g.transpose(x, 0, 2, 1, name="input")
    if model.memory_attention.pos_enc_at_input:
        table = sine_2d(g, model.image_encoder.neck.position_encoding, h, name="input_position")
        x = g.add(x, g.mul(table, g.scalar(0.1), name="input_position"), name="input")
    memory = _MemoryTokens(g, model, spec)
    rope = _rope_tables(g, model.memory_attention.layers[0].self_attn, h)
    for i, layer in enumerate(model.memory_attention.layers):
        x = _layer(g, x, layer, memory, rope, name=f"layers.{i}")
    x = layer_norm(g, x, model.memory_attention.norm, name="norm")
    x = g.transpose(x, 0, 2, 1, name="output")
    g.output("conditioned", g.reshape(x, 0, c, h, h, name="output"))
    return g


class _MemoryTokens:
    """Keys and values of the cross-attention, before any projection.

    Attributes:
        pooling: side of the windows that one token stands for; ``HW`` below counts windows.
        rope: cosines and sines of the tokens' places.
        frames: memory features ``[B, F, HW, M]``.
        frame_keys: the same with spatial and temporal position added.
        pointers: pointer tokens ``[B, N C / M, M]`` (a pointer is split into C / M tokens).
        pointer_keys: the same with temporal position added.
        values: all tokens ``[B, F HW + N C / M, M]``.
    """

    def __init__(self, g: GraphBuilder, model: Any, spec: ModelSpec) -> None:
        h, m, self.pooling = spec.feature_size, spec.memory_dim, spec.memory_pooling
        attn = model.memory_attention.layers[0].cross_attn_image
        self.rope = _rope_tables(g, attn, h, self.pooling)
        frames = pooled_frames(g, g.input("memory"), self.pooling, name="memory")
        frames = g.reshape(frames, 0, 0, m, (h // self.pooling) ** 2, name="memory")
        self.frames = g.transpose(frames, 0, 1, 3, 2, name="memory")
        codes = g.constant("maskmem_tpos_enc", array(model.maskmem_tpos_enc).reshape(-1, 1, m))
        temporal = g.op("Gather", codes, g.input("memory_tpos"), name="memory_tpos", axis=0)
        encoding = model.memory_encoder.position_encoding
        spatial = sine_2d(g, encoding, h, name="memory_position")
        spatial = pooled_table(g, spatial, h, self.pooling, name="memory_position")
        position = g.add(temporal, spatial, name="memory_position")
        self.frame_keys = g.add(self.frames, position, name="memory_keys")
        self.pointers = g.reshape(g.input("pointers"), 0, -1, m, name="pointers")
        self.pointer_keys = self.pointers
        if model.add_tpos_enc_to_obj_ptrs:
            position = _pointer_position(g, model, spec)
            self.pointer_keys = g.add(self.pointers, position, name="pointer_keys")
        flat = g.reshape(self.frames, 0, -1, m, name="memory_values")
        self.values = g.concat(flat, self.pointers, axis=1, name="memory_values")


def _pointer_position(g: GraphBuilder, model: Any, spec: ModelSpec) -> Tensor:
    """Sine code of the temporal distance (upstream ``get_1d_sine_pe``), ``[N C / M, M]``."""
    m = spec.memory_dim
    width = spec.d_model if model.proj_tpos_enc_in_obj_ptrs else m
    half = width // 2
    frequency = torch.arange(half, dtype=torch.float32)
    frequency = 10000 ** (2 * (frequency // 2) / half)
    distance = g.op("Unsqueeze", g.input("pointer_tpos"), g.ints(1), name="pointer_tpos")
    divisor = g.constant("pointer_tpos.frequency", frequency.numpy()[None])
    angle = g.op("Div", distance, divisor, name="pointer_tpos")
    x = g.concat(
        g.op("Sin", angle, name="pointer_tpos"),
        g.op("Cos", angle, name="pointer_tpos"),
        axis=-1,
        name="pointer_tpos",
    )
    if model.proj_tpos_enc_in_obj_ptrs:
        x = linear(g, x, model.obj_ptr_tpos_proj, name="obj_ptr_tpos_proj")
    x = g.op("Unsqueeze", x, g.ints(1), name="pointer_tpos")
    x = g.expand(x, 1, spec.d_model // m, 1, name="pointer_tpos")
    return g.reshape(x, -1, m, name="pointer_tpos")


_Rope = tuple[Tensor, Tensor]


def _rope_tables(g: GraphBuilder, attn: Any, h: int, pooling: int = 1) -> _Rope:
    settings = attn.compute_cis.keywords
    name = "rope" if pooling == 1 else "pooled_rope"
    return rope_2d(g, settings["dim"], settings["theta"], h, pooling, name=name)


def _rotate(g: GraphBuilder, x: Tensor, rope: _Rope, half: int, *, name: str) -> Tensor:
    """Rotate the two halves of the last axis: ``(a cos - b sin, a sin + b cos)``."""
    cos, sin = rope
    a, b = g.split(x, 2, half, axis=-1, name=name)
    first = g.op("Sub", g.mul(a, cos, name=name), g.mul(b, sin, name=name), name=name)
    second = g.add(g.mul(a, sin, name=name), g.mul(b, cos, name=name), name=name)
    return g.concat(first, second, axis=-1, name=name)


def _halves(layer: nn.Linear, factor: float = 1.0) -> LinearWeights:
    """The projection with its interleaved pairs put into two halves, scaled by ``factor``."""
    size = layer.out_features
    order = np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)])
    factors = np.full(size, factor, np.float32)
    return LinearWeights(layer).permute_outputs(order).scale_outputs(factors)


def _layer(
    g: GraphBuilder, x: Tensor, layer: Any, memory: _MemoryTokens, rope: _Rope, *, name: str
) -> Tensor:
    """One ``MemoryAttentionLayer`` on ``[B or 1, HW, C]``."""
    y = layer_norm(g, x, layer.norm1, name=f"{name}.norm1")
    y = _self_attention(g, y, layer.self_attn, rope, name=f"{name}.self_attn")
    x = g.add(x, y, name=f"{name}/residual")
    y = layer_norm(g, x, layer.norm2, name=f"{name}.norm2")
    y = _cross_attention(
        g, y, layer.cross_attn_image, memory, rope, name=f"{name}.cross_attn_image"
    )
    x = g.add(x, y, name=f"{name}/residual")
    y = layer_norm(g, x, layer.norm3, name=f"{name}.norm3")
    y = g.op("Relu", linear(g, y, layer.linear1, name=f"{name}.linear1"), name=name)
    y = linear(g, y, layer.linear2, name=f"{name}.linear2")
    return g.add(x, y, name=f"{name}/residual")


def _query(g: GraphBuilder, x: Tensor, attn: Any, rope: _Rope, *, name: str) -> Tensor:
    width = attn.internal_dim
    q = linear(g, x, _halves(attn.q_proj, width**-0.5), name=f"{name}.q_proj")
    return _rotate(g, q, rope, width // 2, name=f"{name}/q_rope")


def _self_attention(g: GraphBuilder, x: Tensor, attn: Any, rope: _Rope, *, name: str) -> Tensor:
    q = _query(g, x, attn, rope, name=name)
    k = linear(g, x, _halves(attn.k_proj), name=f"{name}.k_proj")
    k = _rotate(g, k, rope, attn.internal_dim // 2, name=f"{name}/k_rope")
    v = linear(g, x, attn.v_proj, name=f"{name}.v_proj")
    k = g.transpose(k, 0, 2, 1, name=f"{name}/k")
    steps = product_steps(attn, attn.internal_dim**-0.5)
    y = attention(g, q, k, v, steps, name=name)
    return linear(g, y, attn.out_proj, name=f"{name}.out_proj")


def _cross_attention(
    g: GraphBuilder, x: Tensor, attn: Any, memory: _MemoryTokens, rope: _Rope, *, name: str
) -> Tensor:
    width = attn.internal_dim
    q = _query(g, x, attn, rope, name=name)
    k_proj = _halves(attn.k_proj)
    k = linear(g, memory.frame_keys, k_proj, name=f"{name}.k_proj")
    k = _rotate(g, k, memory.rope, width // 2, name=f"{name}/k_rope")  # for every frame the same
    k = g.reshape(k, 0, -1, width, name=f"{name}/k")
    pointers = linear(g, memory.pointer_keys, k_proj, name=f"{name}.k_proj")
    steps = product_steps(attn, width**-0.5)
    if memory.pooling > 1:
        shift = score_shift(memory.pooling, steps)
        q = widened(g, q, shift.dimensions, shift.query, name=f"{name}/q_mass")
        k = widened(g, k, shift.dimensions, shift.key, name=f"{name}/k_mass")
        pointers = widened(
            g, pointers, shift.dimensions, np.float32(0), name=f"{name}/pointer_mass"
        )
    k = g.concat(k, pointers, axis=1, name=f"{name}/k")
    k = g.transpose(k, 0, 2, 1, name=f"{name}/k")
    if are_float(attn.v_proj, attn.out_proj):
        y = attention(g, q, k, memory.values, steps, name=name)
        return linear(g, y, absorbed_values(attn.out_proj, attn.v_proj), name=f"{name}.out_v_proj")
    v_proj, values = LinearWeights(attn.v_proj), memory.values
    if v_proj.quantized is not None:
        values = fake_quantized(g, values, v_proj.quantized, name=f"{name}.v_proj")
    y = product(g, attention(g, q, k, values, steps, name=name), v_proj, name=f"{name}.v_proj")
    return linear(g, y, attn.out_proj, name=f"{name}.out_proj")
