"""Layers that all components are made of: linear (float or QDQ), norms, activations, attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from torch import nn

from ..quant.layers.attention_layer import AttentionSteps
from ..quant.layers.modules import QuantLayer
from .arrays import array
from .graph import GraphBuilder, Tensor
from .linear_weights import LinearWeights, Pointwise
from .quantized import dequantize_input, dequantized_weight, fake_quantized, quantize_input
from .quantized_attention import quantized_attention


def linear(g: GraphBuilder, x: Tensor, layer: Pointwise | LinearWeights, *, name: str) -> Tensor:
    """Apply a linear layer to the last axis of ``x``; QDQ if the layer is quantized.

    ``name`` is the layer's path in the checkpoint.
    """
    return linear_parts(g, x, layer, 1, name=name)[0]


def linear_parts(
    g: GraphBuilder, x: Tensor, layer: Pointwise | LinearWeights, parts: int, *, name: str
) -> list[Tensor]:
    """Apply a linear layer whose outputs are used in ``parts`` equal parts.

    Each part is a matrix product of its own, which saves the copies of a split; a quantized
    layer's input is quantized once.
    """
    weights = layer if isinstance(layer, LinearWeights) else LinearWeights(layer)
    if weights.quantized is not None:
        x = quantize_input(g, x, weights.quantized, name=name)
    size = len(weights.bias) // parts
    results = []
    for i in range(parts):
        part = weights.outputs(i * size, (i + 1) * size)
        y = x
        if part.quantized is not None:
            y = dequantize_input(g, x, part.quantized, name=name)
        results.append(product(g, y, part, name=f"{name}/{i}" if parts > 1 else name))
    return results


def product(g: GraphBuilder, x: Tensor, weights: LinearWeights, *, name: str) -> Tensor:
    """Multiply ``x`` as it is with the weights, and add the bias."""
    if weights.quantized is None:
        assert weights.weight is not None
        weight = g.constant(f"{name}.weight", np.ascontiguousarray(weights.weight.T))
    else:
        codes = weights.quantized.weight_codes.T
        weight = dequantized_weight(g, weights.quantized, codes, axis=1, name=name)
    y = g.op("MatMul", x, weight, name=name)
    return g.add(y, g.constant(f"{name}.bias", weights.bias), name=name)


def layer_norm(g: GraphBuilder, x: Tensor, norm: nn.Module, *, name: str) -> Tensor:
    """LayerNorm over the last axis; takes ``nn.LayerNorm`` and upstream ``LayerNorm2d`` (NHWC)."""
    weight = g.constant(f"{name}.weight", array(cast("torch.Tensor", norm.weight)))
    bias = g.constant(f"{name}.bias", array(cast("torch.Tensor", norm.bias)))
    eps = float(cast("float", norm.eps))
    return g.op("LayerNormalization", x, weight, bias, name=name, axis=-1, epsilon=eps)


def layer_norm_2d(g: GraphBuilder, x: Tensor, norm: nn.Module, *, name: str) -> Tensor:
    """Upstream ``LayerNorm2d`` on NCHW."""
    x = g.transpose(x, 0, 2, 3, 1, name=name)
    return g.transpose(layer_norm(g, x, norm, name=name), 0, 3, 1, 2, name=name)


def gelu(g: GraphBuilder, x: Tensor, *, name: str) -> Tensor:
    """Exact GELU, in the form that engines fuse: ``0.5 x (1 + erf(x / sqrt 2))``."""
    erf = g.op("Erf", g.op("Div", x, g.scalar(float(np.sqrt(2.0))), name=name), name=name)
    return g.mul(
        g.mul(x, g.add(erf, g.scalar(1.0), name=name), name=name), g.scalar(0.5), name=name
    )


def conv(g: GraphBuilder, x: Tensor, layer: nn.Conv2d, *, name: str) -> Tensor:
    """2-D convolution on NCHW; QDQ if the layer is quantized."""
    x, weight = _conv_inputs(g, x, layer, axis=0, name=name)
    inputs = [x, weight]
    if layer.bias is not None:
        inputs.append(g.constant(f"{name}.bias", array(layer.bias)))
    padding = [int(p) for p in cast("tuple[int, int]", layer.padding)]
    return g.op(
        "Conv",
        *inputs,
        name=name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=padding * 2,
        group=layer.groups,
    )


def _conv_inputs(
    g: GraphBuilder, x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d, *, axis: int, name: str
) -> tuple[Tensor, Tensor]:
    if not isinstance(layer, QuantLayer):
        return x, g.constant(f"{name}.weight", array(layer.weight))
    q = layer.export_form()
    x = fake_quantized(g, x, q, name=name)
    return x, dequantized_weight(g, q, q.weight_codes, axis=axis, name=name)


def conv_stack(g: GraphBuilder, x: Tensor, modules: Iterable[nn.Module], *, name: str) -> Tensor:
    """Convolutions, ``LayerNorm2d`` and GELU in a row, as upstream downscales masks; NCHW."""
    for i, module in enumerate(modules):
        path = f"{name}.{i}"
        if isinstance(module, nn.Conv2d):
            x = conv(g, x, module, name=path)
        elif isinstance(module, nn.GELU):
            x = gelu(g, x, name=path)
        else:
            x = layer_norm_2d(g, x, module, name=path)
    return x


def conv_transpose(g: GraphBuilder, x: Tensor, layer: nn.ConvTranspose2d, *, name: str) -> Tensor:
    """2-D transposed convolution on NCHW, without padding; QDQ if the layer is quantized."""
    x, weight = _conv_inputs(g, x, layer, axis=1, name=name)
    bias = g.constant(f"{name}.bias", array(layer.bias))
    return g.op(
        "ConvTranspose",
        x,
        weight,
        bias,
        name=name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
    )


def mlp(g: GraphBuilder, x: Tensor, module: nn.Module, *, name: str, activation: str) -> Tensor:
    """Upstream ``sam2_utils.MLP``; ``activation`` is ``relu`` or ``gelu``."""
    layers = list(cast("nn.ModuleList", module.layers))
    for i, layer in enumerate(layers):
        path = f"{name}.layers.{i}"
        x = linear(g, x, cast("nn.Linear", layer), name=path)
        if i < len(layers) - 1:
            x = gelu(g, x, name=path) if activation == "gelu" else g.op("Relu", x, name=path)
    return g.op("Sigmoid", x, name=name) if module.sigmoid_output else x


def attention(
    g: GraphBuilder,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    steps: AttentionSteps | None = None,
    *,
    name: str,
) -> Tensor:
    """``softmax(q kᵀ) v``; the factor ``1/sqrt(d)`` is already in ``q``.

    Args:
        g: the graph.
        q: ``[..., n, d]``.
        k: already transposed, ``[..., d, m]``.
        v: ``[..., m, e]``.
        steps: of ``q``, ``k`` and ``v``, if the product is quantized.
        name: path of the attention layer.
    """
    if steps is not None:
        return quantized_attention(g, q, k, v, steps, name=name)
    scores = g.op("MatMul", q, k, name=f"{name}/scores")
    probabilities = g.op("Softmax", scores, name=f"{name}/probabilities", axis=-1)
    return g.op("MatMul", probabilities, v, name=f"{name}/context")
