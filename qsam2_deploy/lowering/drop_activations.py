"""Leave the inputs of layers unrounded, for engines that multiply floats.

Activations are then finer than what was trained, never coarser. Their clipping goes too.

Requires: QuantizeLinear, perhaps behind a Clip, and DequantizeLinear. Ensures: no QuantizeLinear;
what used the dequantized tensors reads what came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx_graph.index import QUANTIZE, GraphIndex, replace_nodes

if TYPE_CHECKING:
    import onnx


def drop_activations(model: onnx.ModelProto) -> int:
    """Drop the quantization of activations of ``model`` in place.

    Returns:
        How many tensors were quantized.
    """
    index = GraphIndex(model)
    sources = {}
    quantizers = [node for node in model.graph.node if node.op_type == QUANTIZE]
    for quantize in quantizers:
        clip = index.made_by(quantize.input[0], "Clip")
        source = clip.input[0] if clip is not None else quantize.input[0]
        for dequantize in index.users.get(quantize.output[0], []):
            sources[dequantize.output[0]] = source
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = sources.get(name, name)
    replace_nodes(model, {})
    return len(quantizers)
