"""Quantized attention products by themselves, and their graphs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch

from qsam2_deploy.export.graph import GraphBuilder, model_from_graphs
from qsam2_deploy.export.quantized_attention import quantized_attention
from qsam2_deploy.quant.layers.attention_layer import AttentionSteps
from qsam2_deploy.quant.layers.attention_product import GRID, AttentionProduct
from qsam2_deploy.quant.quantizers.quantizer import make_quantizer
from qsam2_deploy.spec import ComponentSpec, TensorSpec


@dataclass(frozen=True)
class Shape:
    """Sizes of one product: ``heads`` is 0 where there is no axis of heads."""

    queries: int
    keys: int
    heads: int = 0
    width: int = 24
    values: int = 12

    def of(self, rows: int, width: int) -> tuple[int, ...]:
        lead = (2, self.heads) if self.heads else (2,)
        return (*lead, rows, width)


def make_product(shape: Shape) -> tuple[AttentionProduct, list[torch.Tensor]]:
    """Return a quantized product that clips a little, and queries, keys and values for it."""
    torch.manual_seed(shape.queries + shape.keys)
    q, k = (torch.randn(shape.of(n, shape.width)) for n in (shape.queries, shape.keys))
    v = torch.randn(shape.of(shape.keys, shape.values)) * 3 + 1
    product, inputs = AttentionProduct(), [q * 1.5, k * 1.5, v]
    for part, x in zip(("q", "k", "v"), inputs, strict=True):
        quantizer = make_quantizer("lsc", GRID.bits)
        quantizer.warm_start(0.9 * x.abs().max(), x.std(), x.mean())
        setattr(product, part, quantizer)
    return product.eval().requires_grad_(False), inputs


def graph_of_product(
    product: AttentionProduct, shape: Shape, opset: int | None = None
) -> onnx.ModelProto:
    """Return the canonical model of a product, with inputs ``c/q``, ``c/k``, ``c/v``."""
    sizes = {"q": (shape.queries, shape.width), "k": (shape.keys, shape.width)}
    sizes["v"] = (shape.keys, shape.values)
    inputs = tuple(TensorSpec(n, "float32", shape.of(*size)) for n, size in sizes.items())
    output = TensorSpec("y", "float32", shape.of(shape.queries, shape.values))
    g = GraphBuilder(ComponentSpec("c", inputs, (output,)))
    factor = np.float32(shape.width**-0.5)
    scales = {n: np.float32(q.scale) for n, q in product.quantizers.items()}
    steps = AttentionSteps(scales["q"] * factor, scales["k"], scales["v"])
    q = g.mul(g.input("q"), g.constant("factor", factor), name="queries")
    order = (0, 1, 3, 2) if shape.heads else (0, 2, 1)
    k = g.transpose(g.input("k"), *order, name="keys")
    v = g.op("Identity", g.input("v"), name="values")
    g.output("y", quantized_attention(g, q, k, v, steps, name="attention"))
    return model_from_graphs([g], {}, "test", opset)


def feeds_of(inputs: list[torch.Tensor]) -> dict[str, Any]:
    """Return queries, keys and values as the model's inputs."""
    return {f"c/{n}": x.numpy() for n, x in zip(("q", "k", "v"), inputs, strict=True)}
