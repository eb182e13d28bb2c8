"""Run quantized linear layers as integer matrix products of ONNX Runtime.

ONNX Runtime can fuse QDQ around a MatMul by itself, but whether it does hangs on its other
optimizers: joining MatMul and Add to Gemm first leaves a float product behind, silently. Here the
fused operator is written down, with the float bias inside.

Requires: ``Add(MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(codes)), bias)`` with a
scale per tensor for ``x`` and per output channel for the codes. Ensures: ``com.microsoft``
``MatMulIntegerToFloat`` in its place; the integer sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DOMAIN = "com.microsoft"
FUSED = "MatMulIntegerToFloat"


@dataclass(frozen=True)
class _Layer:
    matmul: onnx.NodeProto
    add: onnx.NodeProto
    bias: str
    inputs: onnx.NodeProto  # DequantizeLinear of x
    weight: onnx.NodeProto  # DequantizeLinear of the codes


def integer_matmul(model: onnx.ModelProto) -> int:
    """Replace the quantized linear layers of ``model`` in place.

    Returns:
        How many were replaced.
    """
    from onnx import helper

    layers = {layer.add.name: layer for layer in _find(model)}
    if not layers:
        return 0
    dropped = {layer.matmul.name for layer in layers.values()}
    nodes = []
    for node in model.graph.node:
        if node.name in layers:
            nodes.append(_fused(layers[node.name]))
        elif node.name not in dropped:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    used |= {output.name for output in model.graph.output}
    kept = [n for n in nodes if n.op_type != "DequantizeLinear" or n.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return len(layers)


def _find(model: onnx.ModelProto) -> list[_Layer]:
    producer = {out: node for node in model.graph.node for out in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    users: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    found = []
    for add in model.graph.node:
        if add.op_type != "Add" or add.input[1] not in constants:
            continue
        matmul = producer.get(add.input[0])
        if matmul is None or matmul.op_type != "MatMul" or users[matmul.output[0]] != 1:
            continue
        x, weight = (producer.get(name) for name in matmul.input)
        if x is None or weight is None:
            continue
        if x.op_type != "DequantizeLinear" or weight.op_type != "DequantizeLinear":
            continue
        if weight.input[0] in constants and x.input[0] not in constants:
            found.append(_Layer(matmul, add, add.input[1], x, weight))
    return found


def _fused(layer: _Layer) -> onnx.NodeProto:
    from onnx import helper

    codes, scale, zero = layer.inputs.input
    weight, weight_scale, weight_zero = layer.weight.input
    return helper.make_node(
        FUSED,
        [codes, weight, scale, weight_scale, zero, weight_zero, layer.bias],
        list(layer.add.output),
        layer.matmul.name,
        domain=DOMAIN,
    )
