"""Finding the quantized weights of a canonical graph, as the file stores them.

The form is that of ``docs/formats.md``: ``DequantizeLinear(codes, scale)`` on a symmetric grid,
``Mul(Add(DequantizeLinear(codes, 1), 1/2), scale)`` on a mid-rise one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..spec import MIDRISE, SYMMETRIC
from .index import DEQUANTIZE, GraphIndex

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class StoredWeight:
    """A quantized weight and where it is used.

    Attributes:
        codes: name of the initializer.
        grid: ``symmetric`` or ``midrise``.
        scale: name of the tensor of its steps, an initializer or the Cast of one.
        users: the nodes that read it, in the order of the graph; products, as a rule.
    """

    codes: str
    grid: str
    scale: str
    users: tuple[onnx.NodeProto, ...]


def stored_weights(model: onnx.ModelProto, index: GraphIndex) -> dict[str, StoredWeight]:
    """Return the quantized weights of ``model`` by the name of their codes, in its order."""
    found: dict[str, StoredWeight] = {}
    for node in model.graph.node:
        if node.op_type != DEQUANTIZE or node.input[0] not in index.constants:
            continue
        weight = _weight(index, node)
        known = found.get(weight.codes)
        users = weight.users if known is None else (*known.users, *weight.users)
        found[weight.codes] = StoredWeight(weight.codes, weight.grid, weight.scale, users)
    return found


def _weight(index: GraphIndex, dequantize: onnx.NodeProto) -> StoredWeight:
    codes, scale = dequantize.input[:2]
    users = index.users.get(dequantize.output[0], [])
    # Only the codes of a mid-rise weight are added to.
    add = next((user for user in users if user.op_type == "Add"), None)
    if add is None:
        return StoredWeight(codes, SYMMETRIC, scale, tuple(users))
    levels = index.users.get(add.output[0], [])
    multiply = next((user for user in levels if user.op_type == "Mul"), None)
    if multiply is None:
        return StoredWeight(codes, MIDRISE, scale, ())
    users = index.users.get(multiply.output[0], [])
    return StoredWeight(codes, MIDRISE, multiply.input[1], tuple(users))
