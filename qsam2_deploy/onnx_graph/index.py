"""Looking around in a graph, and changing it; what all passes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

QUANTIZE = "QuantizeLinear"
DEQUANTIZE = "DequantizeLinear"


@dataclass(frozen=True)
class QuantizedProduct:
    """A matrix product or convolution of quantized inputs with quantized constants.

    Attributes:
        node: the product.
        quantize: QuantizeLinear of its input.
        weight: DequantizeLinear of its codes.
    """

    node: onnx.NodeProto
    quantize: onnx.NodeProto
    weight: onnx.NodeProto

    @property
    def codes(self) -> str:
        """Name of the codes of its input."""
        return str(self.quantize.output[0])


class GraphIndex:
    """Who makes and who uses each tensor of a model, at the time when it is built.

    Attributes:
        constants: initializers by name.
        producer: the node that makes a tensor.
        users: the nodes that read a tensor; empty for one that nobody reads.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Index ``model``."""
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {out: node for node in model.graph.node for out in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def made_by(self, tensor: str, op_type: str) -> onnx.NodeProto | None:
        """Return the node that makes ``tensor``, if it is of this type."""
        node = self.producer.get(tensor)
        return node if node is not None and node.op_type == op_type else None

    def quantized_constant(self, tensor: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that makes ``tensor`` from a constant, if one does."""
        node = self.made_by(tensor, DEQUANTIZE)
        return node if node is not None and node.input[0] in self.constants else None

    def quantized_input(self, tensor: str) -> onnx.NodeProto | None:
        """Return the QuantizeLinear at the start of the pair that makes ``tensor``, if one does."""
        node = self.made_by(tensor, DEQUANTIZE)
        return self.made_by(node.input[0], QUANTIZE) if node is not None else None

    def quantized_product(self, node: onnx.NodeProto) -> QuantizedProduct | None:
        """Return ``node`` with what quantizes both of its factors, if both are quantized."""
        quantize = self.quantized_input(node.input[0])
        weight = self.quantized_constant(node.input[1])
        if quantize is None or weight is None:
            return None
        return QuantizedProduct(node, quantize, weight)

    def only_used_by(self, codes: str, names: Iterable[str]) -> bool:
        """Return whether the values of ``codes`` go to nodes of these names alone."""
        allowed = set(names)
        values = [output for node in self.users.get(codes, []) for output in node.output]
        return all(node.name in allowed for value in values for node in self.users.get(value, []))


def value_of(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    """Return an initializer as an array; packed integers must have been widened before."""
    from onnx import numpy_helper

    array: npt.NDArray[Any] = numpy_helper.to_array(tensor)
    return array


def zero_point(index: GraphIndex, quantize: onnx.NodeProto) -> int:
    """Return the zero-point of a QuantizeLinear or DequantizeLinear, 0 where it has none."""
    if len(quantize.input) < 3 or quantize.input[2] not in index.constants:
        return 0
    return int(value_of(index.constants[quantize.input[2]]))


def inferred_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inner tensors by name; a dynamic dimension is 0."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    return {
        info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
    }


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute of ``node``."""
    from onnx import helper

    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default


def add_constant(model: onnx.ModelProto, name: str, value: npt.ArrayLike) -> str:
    """Add an initializer, unless there is one of this name already; return the name."""
    from onnx import numpy_helper

    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def replace_nodes(model: onnx.ModelProto, new: Mapping[str, list[onnx.NodeProto]]) -> None:
    """Put other nodes in the places of some, by name; then drop what nobody uses any more."""
    nodes = []
    for node in model.graph.node:
        nodes += new.get(node.name, [node])
    used = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if any(output in used for output in node.output):
            kept.append(node)
            used.update(node.input)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    if len(constants) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(constants)
