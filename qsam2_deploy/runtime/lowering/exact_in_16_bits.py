"""Compute in floats what is not exact where pairs of products are added in 16 bits.

Processors without VNNI multiply unsigned by signed bytes in pairs whose sum is cut off at 16 bits
(``vpmaddubsw``), and an engine that uses this for whatever it finds has to find less. Inputs take
all of 0 to 255, so a pair of weights is safe whose sum is from -128 to 128: those of up to 7 bits
are, and products of two activations never.

Requires: DequantizeLinear of QuantizeLinear with a scale per tensor, perhaps with nodes that only
move numbers behind it; weights as INT8. Ensures: the same numbers; quantized products are those
whose sums fit, and the others are of floats that are on the trained grids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .fold_activations import fold_activations
from .fold_weights import fold_weights
from .graph import DEQUANTIZE, QUANTIZE, GraphIndex, attribute, value_of

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOVES = frozenset(
    {"Concat", "Expand", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
_LARGEST_PAIR = 32767 // 255


def exact_in_16_bits(model: onnx.ModelProto) -> int:
    """Change the quantized products of ``model`` in place.

    Returns:
        How many products are in floats now that were not.
    """
    index = GraphIndex(model)
    wide: set[str] = set()
    weights: set[str] = set()
    products: set[str] = set()
    for quantize in (node for node in model.graph.node if node.op_type == QUANTIZE):
        reached = _products(index, quantize.output[0])
        if all(_fits(index, product) for product in reached):
            continue
        wide.add(quantize.name)
        products.update(product.name for product in reached)
        constants = (index.quantized_constant(product.input[1]) for product in reached)
        weights.update(node.name for node in constants if node is not None)
    if wide:
        fold_activations(model, only=wide)
        fold_weights(model, only=weights)
    return len(products)


def _products(index: GraphIndex, codes: str) -> list[onnx.NodeProto]:
    """Return the products that the values of ``codes`` go into."""
    found, waiting = [], [codes]
    while waiting:
        for user in index.users.get(waiting.pop(), []):
            if user.op_type in PRODUCTS:
                found.append(user)
            elif user.op_type == DEQUANTIZE or user.op_type in _MOVES:
                waiting += user.output
    return found


def _fits(index: GraphIndex, product: onnx.NodeProto) -> bool:
    """Return whether all sums of pairs of products are within 16 bits; floats have none."""
    weight = index.quantized_constant(product.input[1])
    if weight is None:
        return product.input[1] in index.constants
    codes: npt.NDArray[np.int16] = value_of(index.constants[weight.input[0]]).astype(np.int16)
    if value_of(index.constants[weight.input[1]]).ndim:
        codes = np.moveaxis(codes, attribute(weight, "axis", 1), 0)
        rows = codes.reshape(len(codes), -1)
    else:
        rows = codes.reshape(1, -1)
    pairs = np.sort(rows, axis=1)
    high, low = pairs[:, -2:].clip(0).sum(1), pairs[:, :2].clip(max=0).sum(1)
    return bool(high.max() <= _LARGEST_PAIR and low.min() >= -_LARGEST_PAIR)
