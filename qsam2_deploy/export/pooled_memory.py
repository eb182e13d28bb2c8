"""Memory tokens pooled over windows, which makes the cross-attention that much cheaper.

After EfficientTAM (arXiv 2411.18933, its efficient memory cross-attention). With windows w of
``p x p`` tokens of one memory frame, features ``m``, position codes ``t`` and the rotation ``R`` of
upstream's RoPE::

    k_w = R(centre of w) (W_k mean_{i in w}(m_i + t_i) + b_k)        v_w = mean_{i in w} m_i
    e_w = p² exp(q k_w)    e_j = exp(q k_j)
    out = (sum_w e_w v_w + sum_j e_j v_j) / (sum_w e_w + sum_j e_j)

where j are the tokens of object pointers, which are not pooled. The projection of the keys is
linear, so its input is pooled instead of its result. A window takes the place of ``p²`` tokens, so
``p²`` keeps the share of the attention that the frames have against the pointers. It is ``log p²``
added to the scores, which is done by more dimensions of queries and keys: a constant ``a`` in n
dimensions of the queries, and ``c`` with ``n a c = log p²`` in those of pooled keys, 0 in those of
pointers. So the product keeps its form. Where it is one of integers, ``a`` and ``c`` are whole
steps of their grids, which are exact; ``n a c`` is as near to ``log p²`` as can be.

This changes the model: until a checkpoint is trained with it, its masks are others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..quant.layers.attention_layer import AttentionSteps
from ..spec import ModelSpec
from .graph import GraphBuilder, Tensor

_LANES = 4
"""Integer dimensions come in fours, as processors multiply them."""

_LARGEST_CODE = 127


@dataclass(frozen=True)
class ScoreShift:
    """More dimensions of queries and keys, which add a constant to some scores.

    Attributes:
        dimensions: how many.
        query: what they hold in every query.
        key: what they hold in the keys of scores that get the constant; 0 in others.
    """

    dimensions: int
    query: np.float32
    key: np.float32


def check_pooling(pooling: int, spec: ModelSpec) -> None:
    """Check the side of the windows.

    Raises:
        InputError: it is not positive, or the feature map is no whole number of windows.
    """
    if pooling < 1 or spec.feature_size % pooling:
        raise InputError(
            f"the memory of a model of {spec.image_size} pixels is pooled over windows whose side "
            f"divides {spec.feature_size}, such as 2, but got {pooling}"
        )


def score_shift(pooling: int, steps: AttentionSteps | None) -> ScoreShift:
    """Return what adds ``log p²`` to a score.

    Args:
        pooling: side ``p`` of a window.
        steps: of queries and keys in the graph, where their product is one of integers.
    """
    shift = math.log(pooling**2)
    if steps is None:
        return ScoreShift(1, np.float32(1), np.float32(shift))
    wanted = shift / (float(steps.q) * float(steps.k))
    count = _LANES * max(math.ceil(wanted / _LARGEST_CODE**2 / _LANES), 1)
    codes = np.arange(1, _LARGEST_CODE + 1)
    sums = count * codes[:, None] * codes
    a, c = np.unravel_index(int(np.argmin(np.abs(sums - wanted))), sums.shape)
    return ScoreShift(count, np.float32(codes[a]) * steps.q, np.float32(codes[c]) * steps.k)


def widened(g: GraphBuilder, x: Tensor, dimensions: int, value: np.float32, *, name: str) -> Tensor:
    """Append ``dimensions`` that hold ``value`` to the last axis of ``x`` ``[b, n, d]``."""
    filling = g.constant(f"{name}.filling", value)
    return g.op("Pad", x, g.ints(0, 0, 0, 0, 0, dimensions), filling, name=name)


def pooled_frames(g: GraphBuilder, memory: Tensor, pooling: int, *, name: str) -> Tensor:
    """Average the windows of ``[B, F, M, H, W]``."""
    if pooling == 1:
        return memory
    window = [1, pooling, pooling]
    return g.op("AveragePool", memory, name=name, kernel_shape=window, strides=window)


def pooled_table(g: GraphBuilder, table: Tensor, size: int, pooling: int, *, name: str) -> Tensor:
    """Average the windows of a table ``[size * size, channels]`` of a square."""
    if pooling == 1:
        return table
    side = size // pooling
    windows = g.reshape(table, side, pooling, side, pooling, -1, name=name)
    total = g.op("ReduceSum", windows, g.ints(1, 3), name=name, keepdims=0)
    mean = g.mul(total, g.scalar(1 / pooling**2), name=name)
    return g.reshape(mean, side**2, -1, name=name)
