"""Run quantized linear layers as integer matrix products of ONNX Runtime.

ONNX Runtime can fuse QDQ around a MatMul by itself, but whether it does hangs on its other
optimizers: joining MatMul and Add to Gemm first leaves a float product behind, silently. Here the
fused operator is written down, with the float bias inside.

The signed codes of ``x`` become unsigned ones around 128, which is the same grid: its x86 kernels
multiply unsigned by signed bytes, and signed by signed runs almost twenty times slower on a core
with AVX512-VNNI (``benchmarks/components.py`` measures both).

Requires: ``Add(MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(codes)), bias)`` with
a symmetric INT8 scale per tensor for ``x`` and per output channel for the codes. Ensures:
``com.microsoft`` ``MatMulIntegerToFloat`` in its place; the integer sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DOMAIN = "com.microsoft"
FUSED = "MatMulIntegerToFloat"

_ZERO_POINT = "unsigned_zero_point"


@dataclass(frozen=True)
class _Layer:
    matmul: onnx.NodeProto
    add: onnx.NodeProto
    bias: str
    quantize: onnx.NodeProto  # QuantizeLinear of x
    weight: onnx.NodeProto  # DequantizeLinear of the codes


def integer_matmul(model: onnx.ModelProto) -> int:
    """Replace the quantized linear layers of ``model`` in place.

    Returns:
        How many were replaced.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    layers = {layer.add.name: layer for layer in _find(model)}
    if not layers:
        return 0
    zero_point = numpy_helper.from_array(np.uint8(128), _ZERO_POINT)
    model.graph.initializer.append(zero_point)
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
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = []
    for add in model.graph.node:
        if add.op_type != "Add" or add.input[1] not in constants:
            continue
        matmul = producer.get(add.input[0])
        if matmul is None or matmul.op_type != "MatMul" or len(users[matmul.output[0]]) != 1:
            continue
        x, weight = (producer.get(name) for name in matmul.input)
        if x is None or weight is None or weight.input[0] not in constants:
            continue
        quantize = producer.get(x.input[0])
        kinds = (x.op_type, weight.op_type, quantize.op_type if quantize else "")
        if kinds == ("DequantizeLinear", "DequantizeLinear", "QuantizeLinear"):
            assert quantize is not None
            found.append(_Layer(matmul, add, add.input[1], quantize, weight))
    return _without_shared_codes(found, users)


def _without_shared_codes(
    layers: list[_Layer], users: dict[str, list[onnx.NodeProto]]
) -> list[_Layer]:
    """Leave out layers whose input codes somebody else needs as they are."""
    products = {layer.matmul.name for layer in layers}

    def all_replaced(codes: str) -> bool:
        dequantized = [output for node in users[codes] for output in node.output]
        after = [node.name for name in dequantized for node in users[name]]
        return all(name in products for name in after)

    return [layer for layer in layers if all_replaced(layer.quantize.output[0])]


def _fused(layer: _Layer) -> onnx.NodeProto:
    from onnx import helper

    weight, weight_scale, weight_zero = layer.weight.input
    layer.quantize.input[2] = _ZERO_POINT
    codes, scale = layer.quantize.output[0], layer.quantize.input[1]
    return helper.make_node(
        FUSED,
        [codes, weight, scale, weight_scale, _ZERO_POINT, weight_zero, layer.bias],
        list(layer.add.output),
        layer.matmul.name,
        domain=DOMAIN,
    )
