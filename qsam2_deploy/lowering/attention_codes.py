"""Give attention its queries, keys and values in codes, made where they come from.

Quantizing commutes with what only moves numbers: Reshape, Transpose and Concat. So codes can be
made by the linear layer in front of them, or with the rotary embedding, and a quarter of the bytes
is moved from there on. Where an input comes from elsewhere, the operator still quantizes floats.

Requires: :mod:`.fused_attention` and :mod:`.fused_linear`. Ensures: the same numbers to the bit;
``qsam2`` ``QuantizedLinearCodes`` and ``RotaryCodes`` in front of ``QuantizedAttention``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, add_constant, attribute, value_of
from .fused_attention import OPERATOR
from .fused_linear import CODES, FLOATS
from .kernel_operators import DOMAIN, put_kernels

if TYPE_CHECKING:
    import onnx

ROTARY = "RotaryCodes"

_QUERY, _KEY, _VALUE = 0, 1, 2
_FIRST_SCALE, _VALUE_ZERO = 3, 6


@dataclass(frozen=True)
class _Rotary:
    """A rotary embedding: its input, and the tables ``[n, h]``."""

    source: str
    cos: str
    sin: str


@dataclass
class _Codes:
    """The nodes that make the codes of one input, in their order."""

    index: GraphIndex
    scale: str
    zero: str
    suffix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)


def attention_codes(model: onnx.ModelProto) -> int:
    """Change the inputs of the attention operators of ``model`` in place.

    Returns:
        How many inputs have become codes.
    """
    index = GraphIndex(model)
    new: dict[str, list[onnx.NodeProto]] = {}
    changed = 0
    for node in model.graph.node:
        if node.op_type != OPERATOR or node.domain != DOMAIN:
            continue
        before: list[onnx.NodeProto] = []
        for place in (_QUERY, _KEY, _VALUE):
            if not _worthwhile(index, node.input[place]):
                continue
            scale, zero = node.input[_FIRST_SCALE + place], _zero(model, node, place)
            codes = _Codes(index, scale, zero, f"/codes/{node.name}/{place}")
            node.input[place] = _lift(codes, node.input[place])
            before += codes.nodes
            changed += 1
        new[node.name] = [*before, node]
    put_kernels(model, new, {})
    return changed


def _zero(model: onnx.ModelProto, node: onnx.NodeProto, place: int) -> str:
    if place == _VALUE and len(node.input) > _VALUE_ZERO:
        return str(node.input[_VALUE_ZERO])
    return add_constant(model, "int8/0", np.int8(0))


def _moved(index: GraphIndex, tensor: str) -> list[str]:
    """Return the inputs whose numbers ``tensor`` has in another order, if it is the only user."""
    node = index.producer.get(tensor)
    if node is None or len(index.users.get(tensor, [])) != 1:
        return []
    if node.op_type in ("Reshape", "Transpose"):
        return [node.input[0]]
    if node.op_type == "Concat" and _rotary(index, tensor) is None:
        return list(node.input)
    return []


def _worthwhile(index: GraphIndex, tensor: str) -> bool:
    """Return whether a linear layer or a rotary embedding alone makes much of ``tensor``."""
    moved = _moved(index, tensor)
    if moved:
        return any(_worthwhile(index, source) for source in moved)
    return _linear(index, tensor) is not None or _rotary(index, tensor) is not None


def _linear(index: GraphIndex, tensor: str) -> onnx.NodeProto | None:
    node = index.made_by(tensor, FLOATS)
    return node if node is not None and len(index.users[tensor]) == 1 else None


def _rotary(index: GraphIndex, tensor: str) -> _Rotary | None:
    """Match ``concat(a cos - b sin, a sin + b cos)`` of the halves of a tensor."""
    concat = index.made_by(tensor, "Concat")
    if concat is None or len(concat.input) != 2 or len(index.users.get(tensor, [])) != 1:
        return None
    products = _products(index, concat.input[0], "Sub") + _products(index, concat.input[1], "Add")
    if len(products) != 4:
        return None
    (a, cos), (b, sin) = products[:2]
    split = index.made_by(a, "Split")
    if products[2:] != [(a, sin), (b, cos)] or split is None or list(split.output) != [a, b]:
        return None
    sizes = index.constants.get(split.input[1]) if len(split.input) > 1 else None
    if sizes is None or len(set(value_of(sizes).tolist())) != 1:
        return None
    return _Rotary(split.input[0], cos, sin) if _last_axis(concat, split) else None


def _products(index: GraphIndex, tensor: str, op_type: str) -> list[tuple[str, str]]:
    """Return the factors of the products that a sum or difference is of."""
    node = index.made_by(tensor, op_type)
    found = [index.made_by(name, "Mul") for name in node.input] if node is not None else []
    return [(product.input[0], product.input[1]) for product in found if product is not None]


def _last_axis(concat: onnx.NodeProto, split: onnx.NodeProto) -> bool:
    return bool(attribute(concat, "axis") == attribute(split, "axis") == -1)


def _lift(codes: _Codes, tensor: str) -> str:
    """Return the name of the codes of ``tensor``, and make the nodes that make them."""
    from onnx import helper

    index, name, grid = codes.index, f"{tensor}{codes.suffix}", [codes.scale, codes.zero]
    moved, rotary, linear = _moved(index, tensor), _rotary(index, tensor), _linear(index, tensor)
    if moved:
        made = _copy(index.producer[tensor], name)
        made.input[: len(moved)] = [_lift(codes, source) for source in moved]
    elif rotary is not None:
        inputs = [rotary.source, rotary.cos, rotary.sin, *grid]
        made = helper.make_node(ROTARY, inputs, [name], name, domain=DOMAIN)
    elif linear is not None:
        made = _copy(linear, name)
        made.op_type = CODES
        made.input.extend(grid)
    else:
        made = helper.make_node("QuantizeLinear", [tensor, *grid], [name], name)
    codes.nodes.append(made)
    return name


def _copy(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    made = type(node)()
    made.CopyFrom(node)
    made.output[0] = output
    return made
