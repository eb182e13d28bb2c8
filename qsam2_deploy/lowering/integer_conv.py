"""Run quantized convolutions as integer convolutions of ONNX Runtime.

Its fused ``QLinearConv`` rounds the result to 8 bits, which nobody trained; ``ConvInteger`` gives
the exact sums. Codes become unsigned ones, as for matrix products, and the padding is their
zero-point. Depthwise convolutions are left alone: one by one, their products are too small to
gain anything.

Up to version 1.23, the last one for Python 3.10, ONNX Runtime multiplies unsigned weights only, and
so must processors without VNNI (:mod:`.unsigned_codes`); they are made where ``unsigned`` says so,
with the same sums. They are not the default, because other processors multiply unsigned codes with
signed ones fastest.

Requires: ``Conv(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(codes), bias)`` with a
INT8 scale per tensor for ``x`` and a symmetric one per output channel for the codes. Ensures:
``ConvInteger``, ``Cast``, ``Mul`` with both scales, ``Add`` in its place, but for depthwise ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx_graph.index import (
    GraphIndex,
    QuantizedProduct,
    add_constant,
    attribute,
    replace_nodes,
    value_of,
)
from .unsigned_codes import unsigned_codes, unsigned_weights

if TYPE_CHECKING:
    import onnx

CONV = "ConvInteger"


def integer_conv(model: onnx.ModelProto, *, unsigned: bool = False) -> int:
    """Replace the quantized convolutions of ``model`` in place.

    ``unsigned`` gives weights unsigned codes, too.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    layers = _find(model, index)
    if not layers:
        return 0
    unsigned_codes(model, [layer.quantize for layer in layers])
    new = {}
    for layer in layers:
        codes = layer.weight.input[0]
        weights = unsigned_weights(model, codes) if unsigned else [codes]
        new[layer.node.name] = _integer_nodes(model, index, layer, weights)
    replace_nodes(model, new)
    return len(layers)


def _find(model: onnx.ModelProto, index: GraphIndex) -> list[QuantizedProduct]:
    found = []
    for conv in model.graph.node:
        if conv.op_type != "Conv" or attribute(conv, "group", 1) != 1:
            continue
        product = index.quantized_product(conv)
        if product is not None:
            found.append(product)
    names = [layer.node.name for layer in found]
    return [layer for layer in found if index.only_used_by(layer.codes, names)]


def _integer_nodes(
    model: onnx.ModelProto, index: GraphIndex, layer: QuantizedProduct, weights: list[str]
) -> list[onnx.NodeProto]:
    """Return the nodes of one layer; ``weights`` are the codes, and their zero-point if not 0."""
    from onnx import TensorProto, helper

    name, codes = layer.node.name, layer.codes
    step, zero_point = layer.quantize.input[1:3]
    input_scale = value_of(index.constants[step])
    weight_scale = value_of(index.constants[layer.weight.input[1]])
    scale = add_constant(model, f"{name}/scale", (input_scale * weight_scale).reshape(-1, 1, 1))
    sums, real, scaled = (f"{name}/{kind}" for kind in ("sums", "real", "scaled"))
    has_bias = len(layer.node.input) > 2
    output = layer.node.output[0]
    factors = [codes, weights[0], zero_point, *weights[1:]]
    conv = helper.make_node(CONV, factors, [sums], name)
    conv.attribute.extend(layer.node.attribute)
    nodes = [
        conv,
        helper.make_node("Cast", [sums], [real], real, to=TensorProto.FLOAT),
        helper.make_node("Mul", [real, scale], [scaled if has_bias else output], scaled),
    ]
    if has_bias:
        bias = value_of(index.constants[layer.node.input[2]]).reshape(-1, 1, 1)
        column = add_constant(model, f"{name}/bias", bias)
        nodes.append(helper.make_node("Add", [scaled, column], [output], f"{name}/biased"))
    return nodes
