"""Run quantized attention products as integer matrix products of ONNX Runtime.

- Its x86 kernels multiply unsigned by signed bytes, so queries become unsigned codes around 128,
  which is the same grid; keys and values stay signed, but where the processor cannot multiply
  these exactly (:mod:`.unsigned_codes`).
- Keys are quantized before they are transposed, which moves a quarter of the bytes.
- The values get a column of ones: the product itself then gives the sum of the weights, exactly,
  without another pass over them. Next to values with a zero-point z these are the codes z + 1, or
  z - 1 (minus one) where z is the last code.
- Many queries attend a block at a time, so that their scores stay in the processor's cache.

Requires: attention as :mod:`.attention_pattern` describes it, with queries of a known number and
values of a known width; their codes are INT8, and those of the keys have no zero-point. Ensures:
two ``com.microsoft`` ``MatMulIntegerToFloat`` for each block of queries; integer sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.attention_pattern import QuantizedAttention, find_quantized_attentions
from ..onnx_graph.index import (
    GraphIndex,
    add_constant,
    attribute,
    inferred_shapes,
    replace_nodes,
    value_of,
    zero_point,
)
from .chunk_attention import MIN_QUERIES, block_sizes
from .integer_matmul import DOMAIN, FUSED, use_fused_operators
from .unsigned_codes import MIDDLE, unsigned_zero_point

if TYPE_CHECKING:
    import onnx


_LAST_CODE = 127


@dataclass(frozen=True)
class _Codes:
    """Names of the tensors that the products of one attention read.

    Attributes:
        queries: unsigned codes.
        middle: their zero-point.
        keys: codes, transposed.
        key_offset: their zero-point; empty where it is 0.
        values: codes with a column of ones.
        offset: their zero-point; empty where it is 0.
    """

    queries: str
    middle: str
    keys: str
    key_offset: str
    values: str
    offset: str


def integer_attention(model: onnx.ModelProto, block: int, *, unsigned: bool = False) -> int:
    """Replace the quantized attention products of ``model`` in place.

    Args:
        model: is changed.
        block: queries that attend at a time, where there are many.
        unsigned: give keys and values unsigned codes, too.

    Returns:
        How many were replaced.
    """
    index = GraphIndex(model)
    found = find_quantized_attentions(model, index)
    if not found:
        return 0
    use_fused_operators(model)
    shapes = inferred_shapes(model)
    new = {}
    for attention in found:
        queries, values = shapes[attention.query.input[0]], shapes[attention.value.input[0]]
        codes, nodes = _codes(model, index, attention, len(values), unsigned)
        sizes = block_sizes(queries[-2], block if queries[-2] >= MIN_QUERIES else queries[-2])
        nodes += _products(model, attention, codes, sizes, len(queries) - 2)
        nodes += _normalised(model, index, attention, values[-1])
        new[attention.result.name] = nodes
    replace_nodes(model, new)
    return len(found)


def _codes(
    model: onnx.ModelProto,
    index: GraphIndex,
    attention: QuantizedAttention,
    rank: int,
    unsigned: bool,
) -> tuple[_Codes, list[onnx.NodeProto]]:
    """Return the names of the codes, and the nodes that make them; values have this rank."""
    from onnx import helper

    name = attention.result.name
    queries, keys, padded = (f"{name}/{part}" for part in ("queries", "keys", "values"))
    middle, signed_offset = unsigned_zero_point(model), zero_point(index, attention.value)
    if unsigned:
        offset = unsigned_zero_point(model, signed_offset)
        codes = _Codes(queries, middle, keys, middle, padded, offset)
    else:
        offset = attention.value.input[2] if signed_offset else ""
        codes = _Codes(queries, middle, keys, "", padded, offset)
    query, scale = attention.query.input[:2]
    nodes = [
        helper.make_node("QuantizeLinear", [query, scale, middle], [codes.queries], codes.queries)
    ]
    nodes += _keys(index, attention, codes)
    values = attention.value.output[0]
    if unsigned:
        source, scale = attention.value.input[:2]
        values = f"{padded}.unsigned"
        nodes.append(helper.make_node("QuantizeLinear", [source, scale, offset], [values], values))
    before_and_after = np.zeros(2 * rank, np.int64)
    before_and_after[-1] = 1
    pads = add_constant(model, f"one_more_of_{rank}", before_and_after)
    one = signed_offset + _unit(index, attention)
    filling = np.uint8(one + MIDDLE) if unsigned else np.int8(one)
    padding = [values, pads, add_constant(model, f"{filling.dtype}/{filling}", filling)]
    nodes.append(helper.make_node("Pad", padding, [padded], padded))
    return codes, nodes


def _keys(index: GraphIndex, attention: QuantizedAttention, codes: _Codes) -> list[onnx.NodeProto]:
    """Return the nodes that make the codes of the keys."""
    from onnx import helper

    grid = list(attention.key.input[1:])
    if codes.key_offset:
        grid = [grid[0], codes.key_offset]
    transpose = index.made_by(attention.key.input[0], "Transpose")
    if transpose is None:
        inputs = [attention.key.input[0], *grid]
        return [helper.make_node("QuantizeLinear", inputs, [codes.keys], codes.keys)]
    rows, perm = f"{codes.keys}.rows", attribute(transpose, "perm")
    return [
        helper.make_node("QuantizeLinear", [transpose.input[0], *grid], [rows], rows),
        helper.make_node("Transpose", [rows], [codes.keys], codes.keys, perm=perm),
    ]


def _unit(index: GraphIndex, attention: QuantizedAttention) -> int:
    """Return what the ones are: 1, or -1 where there is no code for 1."""
    return 1 if zero_point(index, attention.value) < _LAST_CODE else -1


def _products(
    model: onnx.ModelProto,
    attention: QuantizedAttention,
    codes: _Codes,
    sizes: list[int],
    axis: int,
) -> list[onnx.NodeProto]:
    """Return the nodes from codes to ``<name>/sums [..., n, e + 1]``, a block at a time."""
    from onnx import helper

    name = attention.result.name
    if len(sizes) == 1:
        return _block(model, attention, codes, codes.queries, f"{name}/sums")
    lengths = add_constant(model, f"{name}/sizes", np.asarray(sizes, np.int64))
    queries = [f"{codes.queries}.{i}" for i in range(len(sizes))]
    sums = [f"{name}/sums.{i}" for i in range(len(sizes))]
    nodes = [
        helper.make_node("Split", [codes.queries, lengths], queries, f"{name}/Split", axis=axis)
    ]
    for part, result in zip(queries, sums, strict=True):
        nodes += _block(model, attention, codes, part, result)
    nodes.append(helper.make_node("Concat", sums, [f"{name}/sums"], f"{name}/Concat", axis=axis))
    return nodes


def _block(
    model: onnx.ModelProto, attention: QuantizedAttention, codes: _Codes, queries: str, result: str
) -> list[onnx.NodeProto]:
    """Return the nodes from the codes of some queries to their weighted sums."""
    from onnx import helper

    scales = [attention.query.input[1], attention.key.input[1]]
    scores, largest, shifted, exp, weights = (
        f"{result}/{kind}" for kind in ("scores", "largest", "shifted", "exp", "weights")
    )
    one, none = add_constant(model, "float_one", np.float32(1)), ""
    return [
        helper.make_node(
            FUSED,
            [queries, codes.keys, *scales, codes.middle, codes.key_offset],
            [scores],
            scores,
            domain=DOMAIN,
        ),
        helper.make_node("ReduceMax", [scores], [largest], largest, axes=[-1], keepdims=1),
        helper.make_node("Sub", [scores, largest], [shifted], shifted),
        helper.make_node("Exp", [shifted], [exp], exp),
        helper.make_node("QuantizeLinear", [exp, *attention.weights.input[1:]], [weights], weights),
        helper.make_node(
            FUSED,
            [weights, codes.values, one, one, none, codes.offset],
            [result],
            result,
            domain=DOMAIN,
        ),
    ]


def _normalised(
    model: onnx.ModelProto, index: GraphIndex, attention: QuantizedAttention, width: int
) -> list[onnx.NodeProto]:
    """Return the nodes that divide the sums of the values by those of the ones."""
    from onnx import helper

    name = attention.result.name
    sums, total, average = (f"{name}/{kind}" for kind in ("values.sum", "ones.sum", "average"))
    parts = add_constant(model, f"{name}/parts", np.array([width, 1], np.int64))
    scale, output = attention.value.input[1], list(attention.result.output)
    if _unit(index, attention) < 0:
        negative = -value_of(index.constants[scale])
        scale = add_constant(model, f"{scale}/negative", negative)
    return [
        helper.make_node("Split", [f"{name}/sums", parts], [sums, total], f"{name}/parts", axis=-1),
        helper.make_node("Div", [sums, total], [average], average),
        helper.make_node("Mul", [average, scale], output, name),
    ]
