"""Layers that all components are made of: linear (float or QDQ), norms, activations, attention."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..quant.modules import QuantizedWeights, QuantLinear
from .graph import GraphBuilder, Tensor

Array = npt.NDArray[np.float32]


def array(tensor: torch.Tensor | None) -> Array:
    """Return a parameter as a float32 numpy array."""
    assert tensor is not None
    return cast("Array", tensor.detach().float().cpu().numpy())


class LinearWeights:
    """The numbers of one linear layer, float or quantized, that exact rewrites may change.

    A rewrite permutes or scales output channels; on a quantized layer a positive factor goes into
    the channel's scale, so the integer codes stay those that were trained.

    Attributes:
        weight: float32 ``[out, in]``; None for a quantized layer.
        bias: float32 ``[out]``.
        quantized: codes and scales; None for a float layer.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Read the numbers of ``layer``."""
        quantized = layer.export_form() if isinstance(layer, QuantLinear) else None
        self.quantized: QuantizedWeights | None = quantized
        self.weight = None if quantized else array(layer.weight)
        bias = layer.bias
        self.bias = array(bias) if bias is not None else np.zeros(layer.out_features, np.float32)

    def scale_outputs(self, factors: Array) -> LinearWeights:
        """Multiply output channel ``i`` by ``factors[i]``, which must be positive."""
        self.bias = (self.bias * factors).astype(np.float32)
        if self.quantized is None:
            assert self.weight is not None
            self.weight = (self.weight * factors[:, None]).astype(np.float32)
        else:
            scale = (self.quantized.weight_scale * factors).astype(np.float32)
            self.quantized = dataclasses.replace(self.quantized, weight_scale=scale)
        return self

    def permute_outputs(self, order: npt.NDArray[np.int64]) -> LinearWeights:
        """Put the output channels into ``order``."""
        self.bias = self.bias[order]
        if self.quantized is None:
            assert self.weight is not None
            self.weight = self.weight[order]
        else:
            codes, scale = self.quantized.weight_codes[order], self.quantized.weight_scale[order]
            self.quantized = dataclasses.replace(
                self.quantized, weight_codes=codes, weight_scale=scale
            )
        return self

    def outputs(self, start: int, stop: int) -> LinearWeights:
        """Return a layer of the output channels ``start`` to ``stop`` alone."""
        part = copy.copy(self)
        part.bias = self.bias[start:stop]
        if self.quantized is None:
            assert self.weight is not None
            part.weight = self.weight[start:stop]
        else:
            part.quantized = dataclasses.replace(
                self.quantized,
                weight_codes=self.quantized.weight_codes[start:stop],
                weight_scale=self.quantized.weight_scale[start:stop],
            )
        return part


def linear(g: GraphBuilder, x: Tensor, layer: nn.Linear | LinearWeights, *, name: str) -> Tensor:
    """Apply a linear layer to the last axis of ``x``; QDQ if the layer is quantized.

    ``name`` is the layer's path in the checkpoint.
    """
    return linear_parts(g, x, layer, 1, name=name)[0]


def linear_parts(
    g: GraphBuilder, x: Tensor, layer: nn.Linear | LinearWeights, parts: int, *, name: str
) -> list[Tensor]:
    """Apply a linear layer whose outputs are used in ``parts`` equal parts.

    Each part is a matrix product of its own, which saves the copies of a split; a quantized
    layer's input is quantized once.
    """
    weights = layer if isinstance(layer, LinearWeights) else LinearWeights(layer)
    if weights.quantized is not None:
        x = _quantize_input(g, x, weights.quantized, name)
    size = len(weights.bias) // parts
    return [
        _product(
            g,
            x,
            weights.outputs(i * size, (i + 1) * size),
            name=f"{name}/{i}" if parts > 1 else name,
            input_name=name,
        )
        for i in range(parts)
    ]


def _product(
    g: GraphBuilder, x: Tensor, weights: LinearWeights, *, name: str, input_name: str
) -> Tensor:
    if weights.quantized is None:
        assert weights.weight is not None
        weight = g.constant(f"{name}.weight", np.ascontiguousarray(weights.weight.T))
    else:
        weight = _quantized_weight(g, weights.quantized, name)
        # One DequantizeLinear for each product: engines fuse it only where it has one user.
        scale, zero = _input_scale(g, weights.quantized, input_name)
        x = g.op("DequantizeLinear", x, scale, zero, name=f"{name}/input")
    product = g.op("MatMul", x, weight, name=name)
    return g.add(product, g.constant(f"{name}.bias", weights.bias), name=name)


def _input_scale(g: GraphBuilder, q: QuantizedWeights, name: str) -> tuple[Tensor, Tensor]:
    scale = g.constant(f"{name}.input_scale", np.float32(q.input_scale))
    return scale, g.constant("int8_zero", np.int8(0), np.int8)


def _quantize_input(g: GraphBuilder, x: Tensor, q: QuantizedWeights, name: str) -> Tensor:
    """QuantizeLinear on ``x``: per tensor, symmetric, INT8 codes.

    A grid of fewer bits embeds exactly in INT8 behind a Clip to its first and last level.
    """
    step = np.float32(q.input_scale)
    if q.input_bits < 8:
        low, high = -(2 ** (q.input_bits - 1)), 2 ** (q.input_bits - 1) - 1
        limits = [
            g.constant(f"{name}.input_{end}", step * np.float32(level))
            for end, level in (("min", low), ("max", high))
        ]
        x = g.op("Clip", x, *limits, name=name)
    return g.op("QuantizeLinear", x, *_input_scale(g, q, name), name=f"{name}/input")


def _quantized_weight(g: GraphBuilder, q: QuantizedWeights, name: str) -> Tensor:
    codes = g.constant(f"{name}.weight", np.ascontiguousarray(q.weight_codes.T), np.int8)
    scale = g.constant(f"{name}.weight_scale", q.weight_scale)
    zeros = g.constant(f"{name}.weight_zero_point", np.zeros(len(q.weight_scale)), np.int8)
    return g.op("DequantizeLinear", codes, scale, zeros, name=f"{name}/weight", axis=1)


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
    """2-D convolution on NCHW."""
    inputs = [x, g.constant(f"{name}.weight", array(layer.weight))]
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
    """2-D transposed convolution on NCHW, without padding."""
    weight = g.constant(f"{name}.weight", array(layer.weight))
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


def attention(g: GraphBuilder, q: Tensor, k: Tensor, v: Tensor, *, name: str) -> Tensor:
    """``softmax(q kᵀ) v``; the factor ``1/sqrt(d)`` is already in ``q``.

    The three nodes have fixed names below ``name``, so that a later pass finds them.

    Args:
        g: the graph.
        q: ``[..., n, d]``.
        k: already transposed, ``[..., d, m]``.
        v: ``[..., m, e]``.
        name: path of the attention layer.
    """
    scores = g.op("MatMul", q, k, name=f"{name}/scores")
    probabilities = g.op("Softmax", scores, name=f"{name}/probabilities", axis=-1)
    return g.op("MatMul", probabilities, v, name=f"{name}/context")
