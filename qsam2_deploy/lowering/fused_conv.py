"""Run each quantized convolution as one operator of our own; see ``docs/kernels.md``.

It takes windows of codes as the rows of a matrix product, and puts the channels last. Where a
transposition to that follows, it is dropped; else one back to channels first is added.

Requires: convolutions as :mod:`.integer_conv` describes them, of two dimensions, without dilation;
constants as INT8 and FLOAT. Ensures: ``qsam2`` ``QuantizedConv`` in their places, but for depthwise
ones. Integer sums are exact, and scales and biases are rounded as in :mod:`.integer_conv`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, QuantizedProduct, add_constant, attribute, value_of
from .fused_linear import has_grid, input_of, scalar_of
from .kernel_operators import DOMAIN, inferred_values, put_kernels

if TYPE_CHECKING:
    import onnx

OPERATOR = "QuantizedConv"

_CHANNELS_LAST = [0, 2, 3, 1]
_CHANNELS_FIRST = [0, 3, 1, 2]
_DEPTH_MAX = 32768


@dataclass(frozen=True)
class _Conv:
    """A convolution, and the transposition after it, if that is all that uses it."""

    product: QuantizedProduct
    transpose: onnx.NodeProto | None


def fused_conv(model: onnx.ModelProto) -> int:
    """Replace the quantized convolutions of ``model`` in place.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = [conv for node in model.graph.node if (conv := _conv(index, node)) is not None]
    if not found:
        return 0
    shapes = inferred_values(model)
    new = {}
    for conv in found:
        last = conv.transpose or conv.product.node
        new[last.name] = _nodes(model, index, conv)
    put_kernels(model, new, shapes)
    return len(found)


def _conv(index: GraphIndex, node: onnx.NodeProto) -> _Conv | None:
    if node.op_type != "Conv" or attribute(node, "group", 1) != 1:
        return None
    product = index.quantized_product(node)
    if product is None or not _fits(index, product):
        return None
    users = index.users.get(node.output[0], [])
    after = users[0] if len(users) == 1 and users[0].op_type == "Transpose" else None
    if after is not None and list(attribute(after, "perm", [])) != _CHANNELS_LAST:
        after = None
    return _Conv(product, after)


def _fits(index: GraphIndex, product: QuantizedProduct) -> bool:
    from onnx import TensorProto

    node = product.node
    weight = index.constants[product.weight.input[0]]
    vectors = [index.constants.get(name) for name in (product.weight.input[1], *node.input[2:])]
    return (
        weight.data_type == TensorProto.INT8
        and len(weight.dims) == 4
        and int(np.prod(weight.dims[1:])) <= _DEPTH_MAX
        and all(v is not None and list(v.dims) == [weight.dims[0]] for v in vectors)
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and set(attribute(node, "dilations", [1, 1])) == {1}
        and has_grid(index, product.quantize)
    )


def _nodes(model: onnx.ModelProto, index: GraphIndex, conv: _Conv) -> list[onnx.NodeProto]:
    from onnx import helper

    product, node, name = conv.product, conv.product.node, conv.product.node.name
    quantize = product.quantize
    weight = value_of(index.constants[product.weight.input[0]])
    outputs, _, kernel_h, kernel_w = weight.shape
    rows = add_constant(model, f"{name}/rows", np.ascontiguousarray(weight.reshape(outputs, -1).T))
    if len(node.input) > 2:
        bias = node.input[2]
    else:
        bias = add_constant(model, f"{name}/no_bias", np.zeros(outputs, np.float32))
    alone = len(index.users[product.codes]) == 1
    grid = [scalar_of(model, index, quantize.input[1]), quantize.input[2]]
    source, limits = input_of(index, quantize) if alone else (product.codes, {})
    strides = attribute(node, "strides", [1, 1])
    pads = attribute(node, "pads", [0, 0, 0, 0])
    last = f"{name}/channels_last" if conv.transpose is None else conv.transpose.output[0]
    made = helper.make_node(
        OPERATOR,
        [source, rows, *grid, product.weight.input[1], bias],
        [last],
        name,
        domain=DOMAIN,
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        stride_h=strides[0],
        stride_w=strides[1],
        **limits,
        **dict(zip(("pad_top", "pad_left", "pad_bottom", "pad_right"), pads, strict=True)),
    )
    if conv.transpose is not None:
        return [made]
    back = helper.make_node(
        "Transpose", [last], list(node.output), f"{name}/channels_first", perm=_CHANNELS_FIRST
    )
    return [made, back]
