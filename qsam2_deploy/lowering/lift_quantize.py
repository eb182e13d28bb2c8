"""Quantize before numbers are only moved, so that a quarter of the bytes is.

Requires: :mod:`.fused_linear`, after which layers read codes where several share them. Ensures: a
QuantizeLinear stands before the Reshape and Transpose nodes in front of it that nobody else uses;
the same numbers to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx_graph.index import QUANTIZE, GraphIndex
from .kernel_operators import put_kernels

if TYPE_CHECKING:
    import onnx

MOVES = ("Reshape", "Transpose")


def lift_quantize(model: onnx.ModelProto) -> int:
    """Move QuantizeLinear nodes of ``model`` in place.

    Returns:
        How many were moved.
    """
    index = GraphIndex(model)
    new = {}
    for node in model.graph.node:
        moves = _moves(index, node.input[0]) if node.op_type == QUANTIZE else []
        if any(move.op_type == "Transpose" for move in moves):
            new[node.name] = _lifted(node, moves)
    put_kernels(model, new, {})
    return len(new)


def _moves(index: GraphIndex, tensor: str) -> list[onnx.NodeProto]:
    """Return the nodes that only move the numbers of ``tensor``, the first of them first."""
    moves: list[onnx.NodeProto] = []
    while len(index.users.get(tensor, [])) == 1:
        node = index.producer.get(tensor)
        if node is None or node.op_type not in MOVES:
            break
        moves.insert(0, node)
        tensor = node.input[0]
    return moves


def _lifted(quantize: onnx.NodeProto, moves: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    codes = [f"{move.input[0]}/codes/{quantize.name}" for move in moves]
    nodes = [_copy(quantize, moves[0].input[0], codes[0])]
    for move, source, result in zip(moves, codes, [*codes[1:], quantize.output[0]], strict=True):
        nodes.append(_copy(move, source, result))
    return nodes


def _copy(node: onnx.NodeProto, source: str, result: str) -> onnx.NodeProto:
    made = type(node)()
    made.CopyFrom(node)
    made.name, made.input[0], made.output[0] = result, source, result
    return made
