"""Position tables as small factors that the engine expands when it loads the model.

Stored at full size these constants would be a large part of a low-bit file (25 MB for the
position embedding of the tiny encoder); each is the broadcast of two short tables.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .graph import GraphBuilder, Tensor

Array = npt.NDArray[np.float32]


def sine_2d(g: GraphBuilder, table: torch.Tensor, *, name: str) -> Tensor:
    """Return upstream's ``PositionEmbeddingSine`` as ``[H * W, channels]``.

    Args:
        g: the graph.
        table: the module's output ``[1, channels, H, W]``; its first half of the channels depends
            on the row only, the second on the column only.
        name: name of the constants.
    """
    _, channels, height, width = table.shape
    values = table[0].permute(1, 2, 0).float().numpy()
    half = channels // 2
    rows = g.constant(f"{name}.rows", values[:, :1, :half])
    columns = g.constant(f"{name}.columns", values[:1, :, half:])
    return _outer_concat(g, rows, columns, height, width, half, name=name)


def rope_2d(
    g: GraphBuilder, table: torch.Tensor, height: int, width: int, *, name: str
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of axial RoPE, each ``[H * W, d / 2]``.

    Args:
        g: the graph.
        table: upstream's ``compute_axial_cis`` ``[H * W, d / 2]``, complex; the first half of the
            channels depends on the column only, the second on the row only.
        height: ``H``.
        width: ``W``.
        name: name of the constants.
    """
    half = table.shape[1] // 2
    grid = table.reshape(height, width, 2 * half)
    tensors = []
    for kind, part in (("cos", grid.real), ("sin", grid.imag)):
        values = part.float().numpy()
        columns = g.constant(f"{name}.{kind}_columns", values[:1, :, :half])
        rows = g.constant(f"{name}.{kind}_rows", values[:, :1, half:])
        tensors.append(_outer_concat(g, columns, rows, height, width, half, name=f"{name}/{kind}"))
    return tensors[0], tensors[1]


def _outer_concat(
    g: GraphBuilder, a: Tensor, b: Tensor, height: int, width: int, half: int, *, name: str
) -> Tensor:
    parts = [g.expand(x, height, width, half, name=name) for x in (a, b)]
    joined = g.concat(*parts, axis=-1, name=name)
    return g.reshape(joined, height * width, 2 * half, name=name)


def dense_prompt_position(
    g: GraphBuilder, gaussian: Array, height: int, width: int, *, name: str
) -> Tensor:
    """Return upstream's ``PositionEmbeddingRandom`` of a grid as ``[H * W, channels]``.

    Args:
        g: the graph.
        gaussian: the random frequencies ``[2, channels / 2]``.
        height: ``H``.
        width: ``W``.
        name: name of the constants.
    """
    half = gaussian.shape[1]
    x = (2 * ((np.arange(width) + 0.5) / width) - 1).astype(np.float32)
    y = (2 * ((np.arange(height) + 0.5) / height) - 1).astype(np.float32)
    columns = g.constant(f"{name}.columns", (x[:, None] * gaussian[0])[None])
    rows = g.constant(f"{name}.rows", (y[:, None] * gaussian[1])[:, None])
    angle = g.mul(g.add(columns, rows, name=name), g.scalar(float(2 * np.pi)), name=name)
    joined = g.concat(
        g.op("Sin", angle, name=name), g.op("Cos", angle, name=name), axis=-1, name=name
    )
    return g.reshape(joined, height * width, 2 * half, name=name)


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
