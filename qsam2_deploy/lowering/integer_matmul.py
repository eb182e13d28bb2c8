"""Run quantized linear layers as integer matrix products of ONNX Runtime.

ONNX Runtime can fuse QDQ around a MatMul by itself, but whether it does hangs on its other
optimizers: joining MatMul and Add to Gemm first leaves a float product behind, silently. Here the
fused operator is written down, with the float bias inside.

The signed codes of ``x`` become unsigned ones, which is the same grid: its x86 kernels multiply
unsigned by signed bytes, and signed by signed runs almost twenty times slower on a core with
AVX512-VNNI (``benchmarks/speed/components.py`` measures both). Where the processor cannot multiply
these exactly, the weights become unsigned too; see :mod:`.unsigned_codes`.

Requires: ``Add(MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(codes)), bias)`` with
an INT8 scale per tensor for ``x`` and a symmetric one per output channel for the codes. Ensures:
``com.microsoft`` ``MatMulIntegerToFloat`` in its place; the integer sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..onnx_graph.index import GraphIndex, QuantizedProduct, replace_nodes
from .unsigned_codes import unsigned_codes, unsigned_weights

if TYPE_CHECKING:
    import onnx

DOMAIN = "com.microsoft"
FUSED = "MatMulIntegerToFloat"


@dataclass(frozen=True)
class _Layer:
    product: QuantizedProduct
    add: onnx.NodeProto  # of the bias


def integer_matmul(model: onnx.ModelProto, *, unsigned: bool = False) -> int:
    """Replace the quantized linear layers of ``model`` in place.

    ``unsigned`` gives weights unsigned codes, too.

    Returns:
        How many were replaced.
    """
    layers = _find(model)
    if not layers:
        return 0
    unsigned_codes(model, [layer.product.quantize for layer in layers])
    new = {}
    for layer in layers:
        codes = layer.product.weight.input[0]
        weights = unsigned_weights(model, codes) if unsigned else [codes, ""]
        new[layer.add.name] = [_fused(layer, *weights)]
    replace_nodes(model, new)
    use_fused_operators(model)
    return len(layers)


def use_fused_operators(model: onnx.ModelProto) -> None:
    """Declare ONNX Runtime's own operators, unless that was done already."""
    from onnx import helper

    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _find(model: onnx.ModelProto) -> list[_Layer]:
    index = GraphIndex(model)
    found = []
    for add in model.graph.node:
        if add.op_type != "Add" or add.input[1] not in index.constants:
            continue
        matmul = index.made_by(add.input[0], "MatMul")
        if matmul is None or len(index.users[matmul.output[0]]) != 1:
            continue
        product = index.quantized_product(matmul)
        if product is not None:
            found.append(_Layer(product, add))
    # Somebody else may need the codes of the input as they are.
    products = [layer.product.node.name for layer in found]
    return [
        layer for layer in found if index.only_used_by(layer.product.quantize.output[0], products)
    ]


def _fused(layer: _Layer, weight: str, weight_zero_point: str) -> onnx.NodeProto:
    from onnx import helper

    weight_scale, bias = layer.product.weight.input[1], layer.add.input[1]
    scale, zero_point = layer.product.quantize.input[1:3]
    return helper.make_node(
        FUSED,
        [layer.product.codes, weight, scale, weight_scale, zero_point, weight_zero_point, bias],
        list(layer.add.output),
        layer.product.node.name,
        domain=DOMAIN,
    )
