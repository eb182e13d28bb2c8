"""Write rotary embeddings in the form that OpenVINO computes with one operator.

The export has the parts ``x1 c - x2 s`` and ``x2 c + x1 s`` of the halves x1, x2 of each token.
OpenVINO has an operator for ``x (c, c) + (-x2, x1) (s, s)`` with four dimensions, which are the
same numbers; as it stands, it copies the halves, and keeps two copies of c and s for each of them.

Requires: Split of a tensor ``[..., n, 2 d]`` of three or four dimensions into halves, and products
with the same two tables ``[n, d]`` that go into one Concat. Ensures: the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, add_constant, inferred_shapes, replace_nodes

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Rotation:
    """A rotary embedding: the tensor ``x`` times the tables ``cos`` and ``sin``."""

    x: str
    cos: str
    sin: str
    result: onnx.NodeProto  # Concat


def rotate_halves(model: onnx.ModelProto) -> int:
    """Rewrite the rotary embeddings of ``model`` in place.

    Returns:
        How many there were.
    """
    index, shapes = GraphIndex(model), inferred_shapes(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    tables: dict[str, str] = {}
    for node in model.graph.node:
        found = _find(index, node) if node.op_type == "Concat" else None
        shape = () if found is None else shapes.get(found.cos, ())
        rank = 0 if found is None else len(shapes.get(found.x, ()))
        if found is not None and len(shape) == 2 and min(shape) > 0 and rank in (3, 4):
            before = _tables(model, found, shape, tables)
            new[node.name] = before + _rotated(model, found, shape, rank)
    if new:
        replace_nodes(model, new)
    return len(new)


def _find(index: GraphIndex, concat: onnx.NodeProto) -> _Rotation | None:
    first, second = (index.producer.get(name) for name in concat.input[:2])
    if len(concat.input) != 2 or first is None or second is None:
        return None
    if (first.op_type, second.op_type) != ("Sub", "Add"):
        return None
    products = [index.made_by(name, "Mul") for name in (*first.input, *second.input)]
    if any(product is None for product in products):
        return None
    (a, c), (b, s), (a2, s2), (b2, c2) = (tuple(p.input) for p in products if p is not None)
    split = index.made_by(a, "Split")
    if (a, b, c, s) != (a2, b2, c2, s2) or split is None or list(split.output) != [a, b]:
        return None
    return _Rotation(split.input[0], c, s, concat)


def _tables(
    model: onnx.ModelProto, found: _Rotation, shape: tuple[int, ...], made: dict[str, str]
) -> list[onnx.NodeProto]:
    """Return the nodes that make the tables of twice the width, where nobody made them yet."""
    from onnx import helper

    sizes = add_constant(
        model, f"rotation/{shape[0]}_{2 * shape[1]}", np.array([1, 1, shape[0], 2 * shape[1]])
    )
    nodes = []
    for table in (found.cos, found.sin):
        if table not in made:
            made[table] = f"{table}/twice"
            wide = f"{table}/wide"
            nodes += [
                helper.make_node("Concat", [table, table], [wide], wide, axis=-1),
                helper.make_node("Reshape", [wide, sizes], [made[table]], made[table]),
            ]
    return nodes


def _rotated(
    model: onnx.ModelProto, found: _Rotation, shape: tuple[int, ...], rank: int
) -> list[onnx.NodeProto]:
    from onnx import helper

    tokens, half = shape
    name, output = found.result.name, found.result.output[0]
    halves = add_constant(model, f"rotation/halves_{half}", np.array([half, half]))
    minus = add_constant(model, "rotation/minus_one", np.array(-1, np.float32))
    x, a, b, negative, turned, one, two = (
        f"{name}/{part}" for part in ("x", "first", "second", "negative", "turned", "cos", "sin")
    )
    nodes = []
    if rank == 3:
        into = add_constant(model, f"rotation/into_{2 * half}", np.array([0, 1, tokens, 2 * half]))
        nodes.append(helper.make_node("Reshape", [found.x, into], [x], x))
    else:
        x = found.x
    total = output if rank == 4 else f"{name}/sum"
    nodes += [
        helper.make_node("Split", [x, halves], [a, b], f"{name}/halves", axis=3),
        helper.make_node("Mul", [b, minus], [negative], negative),
        helper.make_node("Concat", [negative, a], [turned], turned, axis=-1),
        helper.make_node("Mul", [x, f"{found.cos}/twice"], [one], one),
        helper.make_node("Mul", [turned, f"{found.sin}/twice"], [two], two),
        helper.make_node("Add", [one, two], [total], name),
    ]
    if rank == 3:
        out = add_constant(model, f"rotation/back_{2 * half}", np.array([0, tokens, 2 * half]))
        nodes.append(helper.make_node("Reshape", [total, out], [output], f"{name}/back"))
    return nodes
