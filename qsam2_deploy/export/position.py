"""Position tables, written as what the engine computes them from when it loads the model.

Stored at full size these constants would be a large part of a low-bit file (25 MB for the
position embedding of the tiny encoder).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .graph import GraphBuilder, Tensor


def sine_2d(g: GraphBuilder, encoding: Any, size: int, *, name: str) -> Tensor:
    """Return upstream's ``PositionEmbeddingSine`` of a square as ``[size * size, channels]``.

    The first half of the channels depends on the row only, the second on the column only; sines
    and cosines alternate.
    """
    half = encoding.num_pos_feats
    place = np.arange(1, size + 1, dtype=np.float32)
    if encoding.normalize:
        place = place / (place[-1] + np.float32(1e-6)) * np.float32(encoding.scale)
    exponent = 2 * np.arange(half // 2, dtype=np.float32) / np.float32(half)
    divisor = np.float32(encoding.temperature) ** exponent
    angle = g.op(
        "Div",
        g.constant(f"{name}.place", place[:, None]),
        g.constant(f"{name}.divisor", divisor[None]),
        name=name,
    )
    waves = [
        g.op("Unsqueeze", g.op(kind, angle, name=name), g.ints(2), name=name)
        for kind in ("Sin", "Cos")
    ]
    line = g.concat(*waves, axis=2, name=name)
    rows = g.reshape(line, size, 1, half, name=name)
    columns = g.reshape(line, 1, size, half, name=name)
    return _outer_concat(g, rows, columns, size, half, name=name)


def rope_2d(
    g: GraphBuilder, dim: int, theta: float, size: int, pooling: int = 1, *, name: str
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of axial RoPE, each ``[(size / pooling)^2, dim / 2]``.

    The first half of the channels depends on the column only, the second on the row only
    (upstream ``compute_axial_cis``).

    Args:
        g: the graph.
        dim: width of a head.
        theta: base of the frequencies.
        size: side of the square.
        pooling: side of the windows whose centres are the places.
        name: name of the constants.
    """
    quarter = dim // 4
    place = np.arange(0, size, pooling, dtype=np.float32) + np.float32((pooling - 1) / 2)
    size //= pooling
    exponent = np.arange(0, dim, 4, dtype=np.float32)[:quarter] / np.float32(dim)
    frequency = np.float32(1.0) / np.float32(theta) ** exponent
    angle = g.mul(
        g.constant(f"{name}.place", place[:, None]),
        g.constant(f"{name}.frequency", frequency[None]),
        name=name,
    )
    tensors = []
    for kind in ("Cos", "Sin"):
        line = g.op(kind, angle, name=name)
        columns = g.reshape(line, 1, size, quarter, name=name)
        rows = g.reshape(line, size, 1, quarter, name=name)
        tensors.append(_outer_concat(g, columns, rows, size, quarter, name=name))
    return tensors[0], tensors[1]


def _outer_concat(
    g: GraphBuilder, a: Tensor, b: Tensor, size: int, half: int, *, name: str
) -> Tensor:
    parts = [g.expand(x, size, size, half, name=name) for x in (a, b)]
    joined = g.concat(*parts, axis=-1, name=name)
    return g.reshape(joined, size * size, 2 * half, name=name)


def dense_prompt_position(g: GraphBuilder, gaussian: Tensor, size: int, *, name: str) -> Tensor:
    """Return upstream's ``PositionEmbeddingRandom`` of a square as ``[size * size, channels]``.

    Args:
        g: the graph.
        gaussian: the random frequencies ``[2, channels / 2]``.
        size: side of the square.
        name: name of the constants.
    """
    place = (2 * ((np.arange(size) + 0.5) / size) - 1).astype(np.float32)
    x_frequency = g.slice(gaussian, [0], [1], [0], name=name)
    y_frequency = g.slice(gaussian, [1], [2], [0], name=name)
    columns = g.mul(g.constant(f"{name}.x", place[None, :, None]), x_frequency, name=name)
    rows = g.mul(g.constant(f"{name}.y", place[:, None, None]), y_frequency, name=name)
    angle = g.mul(g.add(columns, rows, name=name), g.scalar(float(2 * np.pi)), name=name)
    joined = g.concat(
        g.op("Sin", angle, name=name), g.op("Cos", angle, name=name), axis=-1, name=name
    )
    return g.op("Flatten", joined, name=name, axis=2)


def bicubic_position(
    g: GraphBuilder,
    table: torch.Tensor,
    window: torch.Tensor,
    height: int,
    width: int,
    *,
    name: str,
) -> Tensor:
    """Return Hiera's position embedding ``[1, H, W, channels]`` (upstream ``_get_pos_embed``).

    Args:
        g: the graph.
        table: background embedding ``[1, channels, h0, w0]``, enlarged bicubically.
        window: window embedding ``[1, channels, w, w]``, tiled.
        height: ``H``.
        width: ``W``.
        name: path of the trunk.
    """
    background = g.constant(f"{name}.pos_embed", table.detach().float().numpy())
    tile = g.constant(f"{name}.pos_embed_window", window.detach().float().numpy())
    empty = ""
    sizes = g.ints(1, table.shape[1], height, width)
    resized = g.op(
        "Resize",
        background,
        empty,
        empty,
        sizes,
        name=f"{name}.pos_embed",
        mode="cubic",
        coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=-0.75,
    )
    repeats = g.ints(1, 1, height // window.shape[2], width // window.shape[3])
    tiled = g.op("Tile", tile, repeats, name=f"{name}.pos_embed_window")
    total = g.add(resized, tiled, name=f"{name}.pos_embed")
    return g.transpose(total, 0, 2, 3, 1, name=f"{name}.pos_embed")
