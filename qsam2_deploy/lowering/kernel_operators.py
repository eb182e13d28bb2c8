"""What the passes have in common that put in operators of our own; see ``docs/kernels.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..onnx_graph.index import replace_nodes

if TYPE_CHECKING:
    import onnx

DOMAIN = "qsam2"


def put_kernels(
    model: onnx.ModelProto,
    new: Mapping[str, list[onnx.NodeProto]],
    shapes: Mapping[str, onnx.ValueInfoProto],
) -> None:
    """Put operators of ours in the places of nodes, as :func:`.graph.replace_nodes` does.

    No shapes can be inferred through them, so those of their outputs, ``shapes`` of
    :func:`inferred_values`, are written down.
    """
    from onnx import helper

    replace_nodes(model, new)
    if new and all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    known = {info.name for info in model.graph.value_info}
    known |= {output.name for output in model.graph.output}
    outputs = (o for nodes in new.values() for node in nodes for o in node.output)
    model.graph.value_info.extend(shapes[o] for o in outputs if o in shapes and o not in known)


def inferred_values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return types and shapes of the inner tensors by name."""
    from onnx import shape_inference

    return {info.name: info for info in shape_inference.infer_shapes(model).graph.value_info}
