"""Write the bicubic resize of a constant as two matrix products, which engines fold in no time.

The position embedding is stored small and resized in the graph. OpenVINO folds that with its
reference kernel, element by element: three minutes to open a model of 1024 pixels (2026.4). A
bicubic resize is linear and separable, so it is ``rows @ table @ columns``.

Requires: Resize of an initializer ``[..., h, w]`` with constant sizes, ``cubic``, ``half_pixel``,
as the export writes it. Ensures: two MatMul in its place; the numbers differ by float rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..onnx_graph.index import GraphIndex, add_constant, attribute, replace_nodes, value_of

if TYPE_CHECKING:
    import onnx

_TAPS = 4


def resize_constants(model: onnx.ModelProto) -> int:
    """Replace the bicubic resizes of constants in ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = [node for node in model.graph.node if _is_bicubic_of_constant(index, node)]
    if found:
        replace_nodes(model, {node.name: _products(model, index, node) for node in found})
    return len(found)


def cubic_matrix(size: int, new_size: int, a: float) -> npt.NDArray[np.float32]:
    """Return the matrix ``[new_size, size]`` of a bicubic resize of one axis.

    The kernel is that of Keys (1981) with the coefficient ``a``; the ends are repeated.
    """
    centers = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    first = np.floor(centers).astype(np.int64) - 1
    matrix = np.zeros((new_size, size))
    for tap in range(_TAPS):
        weights = _keys(np.abs(centers - (first + tap)), a)
        np.add.at(matrix, (np.arange(new_size), np.clip(first + tap, 0, size - 1)), weights)
    return matrix.astype(np.float32)


def _keys(x: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    """Return the kernel at distances ``x`` from 0 to 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)


def _is_bicubic_of_constant(index: GraphIndex, node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Resize"
        and node.input[0] in index.constants
        and len(node.input) > 3
        and node.input[3] in index.constants
        and attribute(node, "mode", b"nearest") == b"cubic"
        and attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
        and not attribute(node, "antialias", 0)
        and not attribute(node, "exclude_outside", 0)
    )


def _products(
    model: onnx.ModelProto, index: GraphIndex, node: onnx.NodeProto
) -> list[onnx.NodeProto]:
    from onnx import helper

    name, a = node.name, attribute(node, "cubic_coeff_a", -0.75)
    size = index.constants[node.input[0]].dims[-2:]
    new_size = [int(n) for n in value_of(index.constants[node.input[3]])[-2:]]
    rows, columns = (cubic_matrix(*ends, a) for ends in zip(size, new_size, strict=True))
    first = add_constant(model, f"{name}/rows", rows)
    second = add_constant(model, f"{name}/columns", np.ascontiguousarray(columns.T))
    wide = f"{name}/wide"
    return [
        helper.make_node("MatMul", [node.input[0], second], [wide], wide),
        helper.make_node("MatMul", [first, wide], list(node.output), name),
    ]
