"""Compute in half precision, but for the few places that need more.

TensorRT computes in the types that the graph has, so the graph itself says where 16 bits are
enough. In FLOAT stay

- normalisations and softmaxes, whose sums have thousands of terms;
- what sines and cosines are taken of, and with that the encoding of points and of temporal
  distances: a phase of many turns has no 16 bits to spare;
- tables that depend on no input, which an engine computes once; their results are rounded once;
- what is compared with a threshold, back to the product that made it: rounding would change signs;
- the last product of the mask logits, of the object score and of the predicted IoU.

Requires: floats in FLOAT alone; nodes with names, which mean the same in opsets 17 to 21. Ensures:
inputs and outputs of the model as they were; opset 19 or later, the first in which QuantizeLinear
has FLOAT16 steps, and those are positive; products in FLOAT16 but for the ones above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnsupportedModelError
from ..onnx_graph.index import DEQUANTIZE, QUANTIZE, GraphIndex, add_constant, value_of

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 19, 9

FLOAT32_OPERATORS = frozenset({"LayerNormalization", "Softmax"})
FLOAT32_OUTPUTS = ("mask_logits", "object_score", "ious")
"""Outputs whose last product is not in half precision, wherever a component has them."""

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul"})
_COMPARISONS = frozenset({"Greater", "LessOrEqual"})
_PERIODIC = frozenset({"Cos", "Sin"})
_PARTS_OF_PRODUCTS = frozenset({DEQUANTIZE, QUANTIZE, "Clip"})
_FLOAT_INPUTS = {"Resize": (2,)}
"""Inputs that are FLOAT whatever the operator computes in, such as the factors of a Resize."""


def half_precision(model: onnx.ModelProto) -> int:
    """Change ``model`` in place.

    Returns:
        How many products are in half precision.

    Raises:
        UnsupportedModelError: a constant is too large for half precision; names it.
    """
    from onnx import TensorProto

    single = float32_nodes(model)
    rewriter = _Rewriter(model)
    count = 0
    for node in model.graph.node:
        wide = node.name in single
        rewriter.add(node, TensorProto.FLOAT if wide else TensorProto.FLOAT16)
        count += not wide and node.op_type in PRODUCTS
    rewriter.finish()
    for entry in model.opset_import:
        if entry.domain == "" and entry.version < OPSET:
            entry.version, model.ir_version = OPSET, IR_VERSION
    return count


def float32_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes of ``model`` that half precision would hurt."""
    index = GraphIndex(model)
    kept = {node.name for node in _tables(model)}
    for node in model.graph.node:
        if node.op_type in FLOAT32_OPERATORS:
            kept.add(node.name)
        elif node.op_type in _PERIODIC:
            kept |= {node.name, *_upstream(index, node.input, lambda _: False)}
        elif node.op_type in _COMPARISONS:
            kept |= {node.name, *_upstream(index, node.input, _is_product)}
    for output in model.graph.output:
        last = index.producer[output.name]
        kept.add(last.name)
        if output.name in FLOAT32_OUTPUTS:
            kept |= _upstream(index, last.input, _is_product)
    return kept


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type in PRODUCTS


def _tables(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that depend on no input, but for the weights of quantized layers."""
    known = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        if node.op_type != DEQUANTIZE and known.issuperset(node.input):
            known.update(node.output)
            yield node


def _upstream(
    index: GraphIndex, tensors: Iterable[str], last: Callable[[onnx.NodeProto], bool]
) -> set[str]:
    """Return the nodes that make ``tensors``, back to those of ``last``, which are included."""
    found: set[str] = set()
    waiting = list(tensors)
    while waiting:
        node = index.producer.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if last(node):
            # The pairs of Q and DQ around a product fuse with it only if they have its type.
            found |= _quantizers(index, node)
        else:
            waiting += node.input
    return found


def _quantizers(index: GraphIndex, product: onnx.NodeProto) -> set[str]:
    return _upstream_of_types(index, list(product.input), _PARTS_OF_PRODUCTS)


def _upstream_of_types(index: GraphIndex, tensors: list[str], types: frozenset[str]) -> set[str]:
    found: set[str] = set()
    while tensors:
        node = index.producer.get(tensors.pop())
        if node is not None and node.op_type in types and node.name not in found:
            found.add(node.name)
            tensors += node.input
    return found


class _Rewriter:
    """Builds the nodes anew, with a Cast wherever a tensor is needed in its other type."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._types = _element_types(model)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[tuple[str, int], str] = {}

    def add(self, node: onnx.NodeProto, kind: int) -> None:
        """Add ``node``, which computes in ``kind``; only its floats are concerned."""
        from onnx import TensorProto

        exempt = _FLOAT_INPUTS.get(node.op_type, ())
        steps = node.op_type in (QUANTIZE, DEQUANTIZE)
        for i, name in enumerate(node.input):
            if self._types.get(name) == TensorProto.FLOAT and i not in exempt:
                node.input[i] = self._in_type(name, kind, is_step=steps and i == 1)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
        for name in node.output:
            self._made[name, kind] = name
        self._nodes.append(node)

    def finish(self) -> None:
        """Put the nodes into the model, and drop what nobody uses any more."""
        from ..onnx_graph.index import replace_nodes

        del self._model.graph.node[:]
        self._model.graph.node.extend(self._nodes)
        del self._model.graph.value_info[:]
        replace_nodes(self._model, {})

    def _in_type(self, name: str, kind: int, *, is_step: bool) -> str:
        from onnx import TensorProto, helper

        known = self._made.get((name, kind))
        if known is not None:
            return known
        if name in self._constants:
            made = name if kind == TensorProto.FLOAT else self._half_constant(name, is_step)
        elif kind == TensorProto.FLOAT and (name, TensorProto.FLOAT16) not in self._made:
            made = name  # an input of the model
        else:
            made = f"{name}/{'float' if kind == TensorProto.FLOAT else 'half'}"
            self._nodes.append(helper.make_node("Cast", [name], [made], made, to=kind))
        self._made[name, kind] = made
        return made

    def _half_constant(self, name: str, is_step: bool) -> str:
        values = value_of(self._constants[name])
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise UnsupportedModelError(
                f"the constant {name} has values up to {np.abs(values).max():.3g}, too large for "
                "half precision; run this model with ONNX Runtime or OpenVINO"
            )
        half = values.astype(np.float16)
        if is_step:
            # Steps of channels whose weights are all zero may be as small as they like.
            half = np.maximum(half, np.finfo(np.float16).smallest_subnormal)
        return add_constant(self._model, f"{name}/half", half)


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    infos = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}
