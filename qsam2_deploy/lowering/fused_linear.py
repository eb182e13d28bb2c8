"""Run each quantized linear layer as one operator of our own; see ``docs/kernels.md``.

With the product go the quantization of its input, where nobody else needs its codes; the bias; and
what follows: a ReLU, or an activation and the QuantizeLinear of the next layer, which then gets
codes and no floats.

Requires: layers as :mod:`.integer_matmul` describes them, and constants as INT8 and FLOAT. Ensures:
``qsam2`` ``QuantizedLinear`` or ``QuantizedLinearCodes`` in their places. Integer sums are exact,
and sums, scales and biases are rounded as ONNX Runtime does. Its GELU is within 4e-7 of the error
function, and only taken in before a QuantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..onnx_graph.index import QUANTIZE, GraphIndex, QuantizedProduct, add_constant, value_of
from .clipped_codes import clip_before, code_limits, limit_attributes
from .kernel_operators import DOMAIN, inferred_values, put_kernels

if TYPE_CHECKING:
    import onnx

FLOATS = "QuantizedLinear"
CODES = "QuantizedLinearCodes"

_NONE, _RELU, _GELU = 0, 1, 2
_DEPTH_MAX = 32768


@dataclass(frozen=True)
class _Layer:
    """A linear layer and what is taken in with it.

    Attributes:
        product: the MatMul and what quantizes its factors.
        bias: the Add after it.
        activation: which.
        last: the last node that is taken in.
    """

    product: QuantizedProduct
    bias: onnx.NodeProto
    activation: int
    last: onnx.NodeProto


def fused_linear(model: onnx.ModelProto) -> int:
    """Replace the quantized linear layers of ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    layers = [layer for add in model.graph.node if (layer := _layer(index, add)) is not None]
    if not layers:
        return 0
    shapes = inferred_values(model)
    coded = {layer.last.name for layer in layers if layer.last.op_type == QUANTIZE}
    new = {layer.last.name: [_node(model, index, layer, coded)] for layer in layers}
    put_kernels(model, new, shapes)
    return len(layers)


def _layer(index: GraphIndex, add: onnx.NodeProto) -> _Layer | None:
    if add.op_type != "Add" or add.input[1] not in index.constants:
        return None
    matmul = index.made_by(add.input[0], "MatMul")
    if matmul is None or _only_user(index, matmul) is None:
        return None
    product = index.quantized_product(matmul)
    if product is None or not _fits(index, product, add):
        return None
    activation, last = _activation(index, add)
    after = _quantize_after(index, last)
    if after is not None:
        return _Layer(product, add, activation, after)
    if activation == _GELU:
        return _Layer(product, add, _NONE, add)
    return _Layer(product, add, activation, last)


def _quantize_after(index: GraphIndex, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the QuantizeLinear that a node's output goes to alone, perhaps through a Clip."""
    after = _only_user(index, node)
    if after is not None and after.op_type == "Clip":
        quantize = _only_user(index, after)
        if quantize is None or quantize.op_type != QUANTIZE or clip_before(index, quantize) is None:
            return None
        after = quantize
    if after is None or after.op_type != QUANTIZE or not has_grid(index, after):
        return None
    return after


def _only_user(index: GraphIndex, node: onnx.NodeProto) -> onnx.NodeProto | None:
    users = index.users.get(node.output[0], [])
    return users[0] if len(users) == 1 else None


def _fits(index: GraphIndex, product: QuantizedProduct, add: onnx.NodeProto) -> bool:
    from onnx import TensorProto

    weight = index.constants[product.weight.input[0]]
    scales = index.constants.get(product.weight.input[1])
    if weight.data_type != TensorProto.INT8 or len(weight.dims) != 2 or scales is None:
        return False
    depth, outputs = weight.dims
    vectors = (scales, index.constants[add.input[1]])
    return (
        depth <= _DEPTH_MAX
        and all(list(tensor.dims) == [outputs] for tensor in vectors)
        and has_grid(index, product.quantize)
    )


def has_grid(index: GraphIndex, quantize: onnx.NodeProto) -> bool:
    """Return whether a QuantizeLinear has one constant scale, and signed codes of 8 bits."""
    from onnx import TensorProto

    scale = index.constants.get(quantize.input[1])
    if scale is None or scale.data_type != TensorProto.FLOAT or value_of(scale).size != 1:
        return False
    if len(quantize.input) < 3 or quantize.input[2] not in index.constants:
        return False
    return bool(index.constants[quantize.input[2]].data_type == TensorProto.INT8)


def _activation(index: GraphIndex, add: onnx.NodeProto) -> tuple[int, onnx.NodeProto]:
    """Return which activation follows a layer alone, and its last node."""
    after = _only_user(index, add)
    if after is not None and after.op_type == "Relu":
        return _RELU, after
    gelu = _gelu(index, add.output[0])
    return (_NONE, add) if gelu is None else (_GELU, gelu)


def _gelu(index: GraphIndex, x: str) -> onnx.NodeProto | None:
    """Return the last node of ``x * (1 + erf(x / sqrt 2)) * 0.5``, if that alone reads ``x``."""
    users = {node.op_type: node for node in index.users.get(x, [])}
    if users.keys() != {"Div", "Mul"} or len(index.users[x]) != 2:
        return None
    if not _is(index, users["Div"].input[1], np.sqrt(2)):
        return None
    erf = _only_user(index, users["Div"])
    plus = _only_user(index, erf) if erf is not None and erf.op_type == "Erf" else None
    if plus is None or plus.op_type != "Add" or not _is(index, plus.input[1], 1):
        return None
    product = users["Mul"]
    half = _only_user(index, product)
    if set(product.input) != {x, plus.output[0]} or half is None or half.op_type != "Mul":
        return None
    return half if _is(index, half.input[1], 0.5) else None


def _is(index: GraphIndex, name: str, value: float) -> bool:
    constant = index.constants.get(name)
    return constant is not None and bool(np.all(value_of(constant) == np.float32(value)))


def _node(
    model: onnx.ModelProto, index: GraphIndex, layer: _Layer, coded: set[str]
) -> onnx.NodeProto:
    from onnx import helper

    product, to_codes = layer.product, layer.last.op_type == QUANTIZE
    quantize = product.quantize
    weight, scales = product.weight.input[:2]
    # A QuantizeLinear with other users stays, and so does one that another layer has taken in.
    alone = len(index.users[product.codes]) == 1 and quantize.name not in coded
    source, limits = input_of(index, quantize) if alone else (product.codes, {})
    grid = [scalar_of(model, index, quantize.input[1]), quantize.input[2]]
    inputs = [source, weight, *grid, scales, layer.bias.input[1]]
    if to_codes:
        inputs += [scalar_of(model, index, layer.last.input[1]), layer.last.input[2]]
        clip = clip_before(index, layer.last)
        if clip is not None:
            limits |= limit_attributes("y", code_limits(index, layer.last, clip))
    return helper.make_node(
        CODES if to_codes else FLOATS,
        inputs,
        list(layer.last.output),
        product.node.name,
        domain=DOMAIN,
        activation=layer.activation,
        **limits,
    )


def input_of(index: GraphIndex, quantize: onnx.NodeProto) -> tuple[str, dict[str, Any]]:
    """Return what a kernel reads that quantizes its own input, and the limits of the codes."""
    clip = clip_before(index, quantize)
    if clip is None:
        return quantize.input[0], {}
    return clip.input[0], limit_attributes("x", code_limits(index, quantize, clip))


def scalar_of(model: onnx.ModelProto, index: GraphIndex, name: str) -> str:
    """Return a constant without dimensions in place of one of a single number."""
    value = value_of(index.constants[name])
    return name if value.ndim == 0 else add_constant(model, f"{name}/scalar", value.reshape(()))
