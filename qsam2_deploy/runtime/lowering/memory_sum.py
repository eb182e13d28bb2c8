"""Let the memory encoder say whether its memory is finite, without the memory leaving the GPU.

A sum is finite only if every term is. Requires: an output ``memory`` in FLOAT, opset 13 or later.
Ensures: one more output, ``memory_sum [B]``, the sum of each object's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import add_constant

if TYPE_CHECKING:
    import onnx

MEMORY, MEMORY_SUM = "memory", "memory_sum"


def add_memory_sum(component: onnx.ModelProto) -> None:
    """Change the memory encoder in place; other components have no memory and stay as they are."""
    from onnx import helper

    found = [output for output in component.graph.output if output.name == MEMORY]
    if not found:
        return
    kind = found[0].type.tensor_type
    batch = kind.shape.dim[0].dim_param or kind.shape.dim[0].dim_value
    axes = add_constant(component, f"{MEMORY_SUM}/axes", np.array([1, 2, 3], np.int64))
    component.graph.node.append(
        helper.make_node("ReduceSum", [MEMORY, axes], [MEMORY_SUM], MEMORY_SUM, keepdims=0)
    )
    component.graph.output.append(
        helper.make_tensor_value_info(MEMORY_SUM, kind.elem_type, [batch])
    )
