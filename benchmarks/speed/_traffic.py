"""What one component multiplies and moves on a GPU, counted in its graph.

Nothing is run. Sizes are those of a tracked frame in steady state: one object, all memory slots
filled. The graphs are those that TensorRT gets, so that the widths are those that it would read:

- ``fp16``: floats of 16 bits throughout;
- ``int8``: quantized layers read codes of 8 bits on both sides, the rest is as in ``fp16``;
- ``int4``: the large linear layers read weights of 4 bits in blocks, the rest is as in ``fp16``.

An engine fuses what it can, and what it fuses it does not store. So activations are counted twice:
``fused`` supposes that every product reads its factors, writes what the next products read, and
that all between them, the scores of attentions included, never reaches memory; ``unfused`` that
every node reads its inputs and writes its outputs. Real engines are between the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx

from qsam2_deploy.inspection.products import multiply_adds
from qsam2_deploy.lowering import lower_for_tensorrt_int4, lower_for_tensorrt_int8
from qsam2_deploy.onnx_graph.index import DEQUANTIZE, QUANTIZE, GraphIndex
from qsam2_deploy.onnx_graph.tensors import PRODUCTS, copy_of, fix_dimensions, inferred_tensors

PRECISIONS = ("fp16", "int8", "int4")

_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Nodes that move nothing."""

_FLOAT_BITS = 16
_BITS: dict[int, int] = {
    onnx.TensorProto.FLOAT: _FLOAT_BITS,
    onnx.TensorProto.BOOL: 8,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.INT8: 8,
    onnx.TensorProto.INT32: 32,
    onnx.TensorProto.INT64: 64,
}
"""Bits of an element by its type; the graph's floats are FP16 on the device."""


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one component for one frame.

    Attributes:
        quantized: operations (two for a multiply-add) of products with quantized weights.
        attention: of products of two activations.
        other: of all other products.
        weights: bytes of all constants, each read once.
        fused: bytes of activations read and written, with ideal fusion.
        unfused: the same without any.
        scratch: most bytes of activations that are alive at the same time, scores of attentions
            not counted.
    """

    quantized: int
    attention: int
    other: int
    weights: int
    fused: int
    unfused: int
    scratch: int


def work_of(component: onnx.ModelProto, precision: str) -> Work:
    """Count one component.

    Args:
        component: in its canonical form, with weights of at most 4 bits where ``int4`` is wanted.
        precision: one of :data:`PRECISIONS`.

    Raises:
        ModelFileError: the shape of a product cannot be inferred.
    """
    lowered = copy_of(component)
    # Without INT4 the float graph is the same: weights are floats instead of codes with steps.
    (lower_for_tensorrt_int8 if precision == "int8" else lower_for_tensorrt_int4)(lowered)
    fix_dimensions(lowered)
    graph = _Graph(lowered, float_weights=precision == "fp16")
    counts = {"quantized": 0, "attention": 0, "other": 0}
    for name, count in multiply_adds(component).items():
        counts[graph.kind(name)] += 2 * count
    return Work(
        **counts,
        weights=graph.weights(),
        fused=graph.fused(),
        unfused=graph.unfused(),
        scratch=graph.scratch(),
    )


class _Graph:
    """A lowered component with all of its shapes."""

    def __init__(self, model: onnx.ModelProto, *, float_weights: bool) -> None:
        self._index = GraphIndex(model)
        self._tensors = inferred_tensors(model)
        self._nodes = list(model.graph.node)
        self._inputs = [tensor.name for tensor in model.graph.input]
        self._outputs = [tensor.name for tensor in model.graph.output]
        self._float_weights = float_weights
        self._constants = set(self._index.constants)
        for node in self._nodes:
            # With fixed dimensions, shapes are constants as well; an engine folds all of them.
            if node.op_type == "Shape" or all(
                name in self._constants for name in node.input if name
            ):
                self._constants.update(node.output)

    def kind(self, product: str) -> str:
        """Return which of the three counts a product belongs to."""
        node = self._by_name[product]
        if not any(name in self._constants for name in node.input[:2]):
            return "attention"
        quantized = self._index.quantized_constant(self._source(node.input[1])) is not None
        return "quantized" if quantized and not self._float_weights else "other"

    def weights(self) -> int:
        """Bytes of the constants that nodes read; shapes and other integers are not counted."""
        read = {
            name
            for node in self._computing()
            for name in node.input
            if name in self._constants and self._tensors[name].elem_type == onnx.TensorProto.FLOAT
        }
        return sum(self._constant_bytes(name) for name in read)

    def fused(self) -> int:
        """Bytes of what products read, of what they leave for others, and of inputs and outputs."""
        total, stored = 0, set(self._outputs)
        for node in self._nodes:
            if node.op_type in PRODUCTS:
                for name in self._activations(node):
                    source = self._source(name)
                    if self._op_type(source) != "Softmax":
                        stored.add(source)
                        total += self._bytes(name)
        written = sum(self._bytes(name) for name in stored if name not in self._inputs)
        return total + written + sum(self._bytes(n) for n in self._inputs if n not in stored)

    def unfused(self) -> int:
        """Bytes of the activations that nodes read and write, each by itself."""
        tensors = (
            name for node in self._computing() for name in (*self._activations(node), *node.output)
        )
        return sum(self._bytes(name) for name in tensors)

    def scratch(self) -> int:
        """Most bytes of activations that are needed at the same time."""
        last = {
            self._source(name, across=()): step
            for step, node in enumerate(self._nodes)
            for name in node.input
            if name not in self._constants
        }
        forever = {self._source(name, across=()) for name in self._outputs}
        alive = {name: self._bytes(name) for name in self._inputs}
        peak = sum(alive.values())
        for step, node in enumerate(self._nodes):
            for name in node.output:
                if name not in self._constants and self._source(name, across=()) == name:
                    alive[name] = 0 if name in self._scores else self._bytes(name)
            peak = max(peak, sum(alive.values()))
            for name in node.input:
                source = self._source(name, across=())
                if last.get(source) == step and source not in forever:
                    alive.pop(source, None)
        return peak

    # --------------------------------------------------------------- internal
    @cached_property
    def _by_name(self) -> dict[str, onnx.NodeProto]:
        return {node.name: node for node in self._nodes if node.op_type in PRODUCTS}

    @cached_property
    def _scores(self) -> set[str]:
        """Everything from the product of queries and keys to the softmax."""
        found = set()
        for softmax in self._nodes:
            if softmax.op_type != "Softmax":
                continue
            name = softmax.output[0]
            while name in self._index.producer and self._op_type(name) not in PRODUCTS:
                found.add(name)
                name = self._index.producer[name].input[0]
            found.add(name)
        return found

    def _computing(self) -> Iterator[onnx.NodeProto]:
        """The nodes that read or write memory."""
        for node in self._nodes:
            free = node.op_type in _VIEWS or node.op_type == DEQUANTIZE
            if not free and not all(name in self._constants for name in node.output):
                yield node

    def _activations(self, node: onnx.NodeProto) -> list[str]:
        names = dict.fromkeys(name for name in node.input if name)
        return [name for name in names if name not in self._constants]

    def _op_type(self, name: str) -> str:
        node = self._index.producer.get(name)
        return "" if node is None else str(node.op_type)

    def _source(self, name: str, across: tuple[str, ...] = ("Transpose",)) -> str:
        """Return the tensor that ``name`` is another view of.

        A transposition is one where it comes with a product, which reads in any order. What is
        dequantized is read as codes, so that it is a view of them.
        """
        while True:
            op_type = self._op_type(name)
            codes = op_type == DEQUANTIZE and name not in self._constants
            if not codes and op_type not in _VIEWS and op_type not in across:
                return name
            name = self._index.producer[name].input[0]

    def _bytes(self, name: str) -> int:
        source = self._source(name)
        bits = _BITS[self._tensors[source].elem_type]
        codes = self._op_type(source) == QUANTIZE
        return self._count(name) * (8 if codes else bits) // 8

    def _constant_bytes(self, name: str) -> int:
        weight = self._index.quantized_constant(self._source(name))
        if weight is None or self._float_weights:
            return self._count(name) * _FLOAT_BITS // 8
        codes, scale = weight.input[:2]
        bits = self._count(codes) * _BITS[self._tensors[codes].elem_type]
        return (bits + self._count(scale) * _FLOAT_BITS) // 8

    def _count(self, name: str) -> int:
        return math.prod(self._tensors[name].shape)
