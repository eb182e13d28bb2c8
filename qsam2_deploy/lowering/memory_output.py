"""Let the memory encoder give its memory as the bank keeps it, so that it can stay on the GPU.

Upstream keeps memories in bfloat16, and its masks depend on that; the values are rounded to it
here, and stay FLOAT. And a memory that is not finite must not be kept, which its sum tells: that is
finite only if every term is. Requires: an output ``memory`` in FLOAT, opset 13 or later. Ensures:
one more output, ``memory_sum [B]``, the sum of each object's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import add_constant

if TYPE_CHECKING:
    import onnx

MEMORY, MEMORY_SUM = "memory", "memory_sum"


def finish_memory(component: onnx.ModelProto, *, rounds: bool = True) -> None:
    """Change the memory encoder in place; other components have no memory and stay as they are.

    Args:
        component: any of the four.
        rounds: to bfloat16; GPUs before compute capability 8.0 do not know it.
    """
    from onnx import TensorProto, helper

    graph = component.graph
    found = [output for output in graph.output if output.name == MEMORY]
    if not found:
        return
    if rounds:
        producer = next(node for node in graph.node if MEMORY in node.output)
        exact, rounded = f"{MEMORY}/exact", f"{MEMORY}/bfloat16"
        producer.output[list(producer.output).index(MEMORY)] = exact
        graph.node.extend(
            helper.make_node("Cast", [source], [target], target, to=kind)
            for source, target, kind in (
                (exact, rounded, TensorProto.BFLOAT16),
                (rounded, MEMORY, TensorProto.FLOAT),
            )
        )
    kind = found[0].type.tensor_type
    batch = kind.shape.dim[0].dim_param or kind.shape.dim[0].dim_value
    axes = add_constant(component, f"{MEMORY_SUM}/axes", np.array([1, 2, 3], np.int64))
    graph.node.append(
        helper.make_node("ReduceSum", [MEMORY, axes], [MEMORY_SUM], MEMORY_SUM, keepdims=0)
    )
    graph.output.append(helper.make_tensor_value_info(MEMORY_SUM, kind.elem_type, [batch]))
