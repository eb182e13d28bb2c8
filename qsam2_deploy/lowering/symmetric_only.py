"""Refuse what an engine with symmetric steps alone cannot compute.

Requires: the canonical form. Ensures: nothing is changed; the zero-point of every QuantizeLinear
is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnsupportedModelError
from ..onnx_graph.index import QUANTIZE, GraphIndex, zero_point

if TYPE_CHECKING:
    import onnx


def check_symmetric(model: onnx.ModelProto, engine: str) -> None:
    """Refuse ``model`` if one of its inputs has a zero-point that is not 0.

    Raises:
        UnsupportedModelError: names the layer and what to do.
    """
    index = GraphIndex(model)
    for node in model.graph.node:
        if node.op_type == QUANTIZE and zero_point(index, node) != 0:
            raise UnsupportedModelError(
                f"the input of the layer {node.name.removesuffix('/input')} has an affine grid, "
                f"but {engine} knows symmetric ones alone; calibrate with --activation-grid "
                "symmetric, or run the model with ONNX Runtime or OpenVINO"
            )
