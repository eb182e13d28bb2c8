"""The canonical form of a quantized attention product, in ordinary operators.

::

    q  -> QDQ --+
                MatMul -> s -> Sub(s, ReduceMax(s)) -> Exp -> Q -> DQ -> MatMul(_, v) -> Div
    kᵀ -> QDQ --+                                             '--> DQ -> ReduceSum ------^
    v  -> QDQ ------------------------------------------------------------^

Queries, keys and values have INT8 codes and a symmetric step for the tensor, ``exp(s - max s)`` has
UINT8 codes and the step 1/255. See :mod:`qsam2_deploy.quant.layers.attention_product` for the
formula.
"""

from __future__ import annotations

import numpy as np

from ..quant.layers.attention_layer import AttentionSteps, QuantAttention
from ..quant.layers.attention_product import PROBABILITY_STEP
from .graph import GraphBuilder, Tensor


def product_steps(layer: object, query_factor: float) -> AttentionSteps | None:
    """Return the steps of an attention layer, or None if its product is one of floats.

    Args:
        layer: upstream's attention layer, swapped or not.
        query_factor: what the graph's queries are multiplied with, and so their step.
    """
    steps = layer.steps() if isinstance(layer, QuantAttention) else None
    if steps is None:
        return None
    return AttentionSteps(steps.q * np.float32(query_factor), steps.k, steps.v)


def quantized_attention(
    g: GraphBuilder, q: Tensor, k: Tensor, v: Tensor, steps: AttentionSteps, *, name: str
) -> Tensor:
    """``softmax(q k) v`` on integer grids; ``v`` is on one already where it has no step.

    Args:
        g: the graph.
        q: ``[..., n, d]``, with the factor ``1/sqrt(d)`` in it.
        k: already transposed, ``[..., d, m]``.
        v: ``[..., m, e]``.
        steps: of what these tensors hold.
        name: path of the attention layer.
    """
    g.quantized_attentions += 1
    q = _on_grid(g, q, steps.q, name=f"{name}.q")
    k = _on_grid(g, k, steps.k, name=f"{name}.k")
    if steps.v is not None:
        v = _on_grid(g, v, steps.v, name=f"{name}.v")
    scores = g.op("MatMul", q, k, name=f"{name}/scores")
    shifted = g.op("Sub", scores, g.largest(scores, name=f"{name}/largest"), name=f"{name}/shifted")
    weights, total = _weights(g, g.op("Exp", shifted, name=f"{name}/exp"), name=f"{name}/weights")
    total = g.op("ReduceSum", total, g.ints(-1), name=f"{name}/total", keepdims=1)
    context = g.op("MatMul", weights, v, name=f"{name}/context")
    return g.op("Div", context, total, name=f"{name}/normalised")


def _on_grid(g: GraphBuilder, x: Tensor, step: np.float32, *, name: str) -> Tensor:
    grid = g.constant(f"{name}_scale", step), g.constant("int8_zero", np.int8(0), np.int8)
    codes = g.op("QuantizeLinear", x, *grid, name=name)
    return g.op("DequantizeLinear", codes, *grid, name=name)


def _weights(g: GraphBuilder, x: Tensor, *, name: str) -> tuple[Tensor, Tensor]:
    """Return ``x`` of 0 to 1 on its grid twice: one node for each user, which is what fuses."""
    zero = g.constant("uint8_zero", np.uint8(0), np.uint8)
    grid = g.constant("probability_scale", np.float32(PROBABILITY_STEP)), zero
    codes = g.op("QuantizeLinear", x, *grid, name=name)
    first, second = (g.op("DequantizeLinear", codes, *grid, name=name) for _ in range(2))
    return first, second
