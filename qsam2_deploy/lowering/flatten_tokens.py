"""Compute on tokens ``[b, h * w, c]`` what the graph computes on ``[b, h, w, c]``.

OpenVINO takes a tensor of four dimensions for an image whose channels are the second one. Then it
reorders the tokens around every residual, takes LayerNormalization apart, and leaves the bias, the
GELU and the rounding behind a linear layer out of the integer product (2026.4). With three
dimensions it does none of that.

Requires: shapes that can be inferred. Ensures: the same numbers; LayerNormalization and products
with constants, and the operators by element around them, have three dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import (
    DEQUANTIZE,
    QUANTIZE,
    GraphIndex,
    add_constant,
    attribute,
    inferred_shapes,
    value_of,
)

if TYPE_CHECKING:
    import onnx

_SEEDS = frozenset({"LayerNormalization", "MatMul"})
_BY_ELEMENT = frozenset({"Add", "Clip", "Div", "Erf", "Mul", "Relu", "Sub", QUANTIZE, DEQUANTIZE})
_RANK = 4

Shapes = dict[str, tuple[int, ...]]


def flatten_tokens(model: onnx.ModelProto) -> int:
    """Flatten the tokens of ``model`` in place.

    Returns:
        How many nodes compute on flat tokens now.
    """
    index = GraphIndex(model)
    shapes = _all_shapes(model, index)
    found = _regions(model, index, shapes)
    if found:
        _Rewrite(model, shapes, found).apply()
    return len(found)


def _all_shapes(model: onnx.ModelProto, index: GraphIndex) -> Shapes:
    ends = (*model.graph.input, *model.graph.output)
    declared = {
        end.name: tuple(d.dim_value for d in end.type.tensor_type.shape.dim) for end in ends
    }
    constants = {name: tuple(tensor.dims) for name, tensor in index.constants.items()}
    return inferred_shapes(model) | declared | constants


def _regions(model: onnx.ModelProto, index: GraphIndex, shapes: Shapes) -> set[str]:
    """Return the names of the nodes to flatten: the seeds, and what hangs together with them."""
    nodes = {node.name: node for node in model.graph.node if _can_be_flat(index, shapes, node)}
    waiting = [node for node in nodes.values() if node.op_type in _SEEDS]
    found = {node.name for node in waiting}
    while waiting:
        node = waiting.pop()
        near = [index.producer[name] for name in node.input if name in index.producer]
        near += [user for name in node.output for user in index.users.get(name, [])]
        for other in near:
            if other.name in nodes and other.name not in found:
                found.add(other.name)
                waiting.append(other)
    return found


def _can_be_flat(index: GraphIndex, shapes: Shapes, node: onnx.NodeProto) -> bool:
    output = shapes.get(node.output[0], ())
    if not _is_grid(output):
        return False
    if node.op_type in _BY_ELEMENT:
        inputs = [shapes.get(name, (0, 0)) for name in node.input if name]
        return all(len(shape) < 2 or shape == output for shape in inputs)
    if node.op_type == "MatMul":
        weight = shapes.get(node.input[1], ())
        return (
            node.input[0] in shapes
            and len(weight) == 2
            and (
                node.input[1] in index.constants
                or index.quantized_constant(node.input[1]) is not None
            )
        )
    known = node.input[0] in shapes
    return known and node.op_type == "LayerNormalization" and _last_axis(node)


def _is_grid(shape: tuple[int, ...]) -> bool:
    """Return whether this is ``[b, h, w, c]`` of known w and c."""
    return len(shape) == _RANK and min(shape[2:]) > 0


def _last_axis(node: onnx.NodeProto) -> bool:
    return attribute(node, "axis", -1) in (-1, _RANK - 1)


class _Rewrite:
    """One pass over the nodes, in their order."""

    def __init__(self, model: onnx.ModelProto, shapes: Shapes, found: set[str]) -> None:
        self._model, self._shapes, self._found = model, shapes, found
        self._nodes: list[onnx.NodeProto] = []
        self._flat: dict[str, str] = {}  # names of flat copies, by tensor
        self._made_flat: set[str] = set()  # tensors that are there only as flat ones so far
        self._outputs = {output.name for output in model.graph.output}
        self._constants = GraphIndex(model).constants

    def apply(self) -> None:
        for node in self._model.graph.node:
            if node.name in self._found:
                self._add_flat(node)
            else:
                self._add_other(node)
        for name in self._outputs:
            self._restore(name)
        del self._model.graph.node[:]
        self._model.graph.node.extend(self._nodes)

    def _add_flat(self, node: onnx.NodeProto) -> None:
        for i, name in enumerate(node.input):
            if _is_grid(self._shapes.get(name, ())):
                node.input[i] = self._flattened(name)
        for i, name in enumerate(node.output):
            if name:
                node.output[i] = self._flat[name] = f"{name}/flat"
                self._made_flat.add(name)
        self._nodes.append(node)

    def _add_other(self, node: onnx.NodeProto) -> None:
        for i, name in enumerate(node.input):
            if name in self._made_flat and node.op_type == "Reshape" and self._is_absolute(node):
                node.input[i] = self._flat[name]  # elements are in the same order
            else:
                self._restore(name)
        self._nodes.append(node)

    def _is_absolute(self, node: onnx.NodeProto) -> bool:
        """Return whether what a Reshape gives depends on no dimension but the batch."""
        sizes = self._constants.get(node.input[1])
        return sizes is not None and 0 not in value_of(sizes)[1:]

    def _flattened(self, name: str) -> str:
        if name not in self._flat:
            self._flat[name] = f"{name}/flat"
            self._reshape(name, self._flat[name], (0, -1, self._shapes[name][3]))
        return self._flat[name]

    def _restore(self, name: str) -> None:
        if name in self._made_flat:
            self._made_flat.remove(name)
            self._reshape(self._flat[name], name, (0, -1, *self._shapes[name][2:]))

    def _reshape(self, source: str, target: str, shape: tuple[int, ...]) -> None:
        from onnx import helper

        sizes = add_constant(self._model, f"sizes/{shape}", np.asarray(shape, np.int64))
        self._nodes.append(helper.make_node("Reshape", [source, sizes], [target], f"{target}/="))
