"""A small builder of ONNX graphs, one for each component.

The graphs are written node by node instead of being traced: names stay those of the checkpoint,
dynamic dimensions are dynamic by construction, constants that an engine can compute are left to
the engine, and a quantized layer is emitted as QDQ where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .._common.packing import pack, stored_bits
from ..errors import InputError, UnsupportedModelError
from ..spec import ComponentSpec, graph_name

OPSET = 17
"""LayerNormalization needs 17; every engine that we target reads it with INT8 QDQ.

All nodes that are written here mean the same in every opset from 17 to 25, so that a model can
have the lowest that knows the types of its weights. One is spelled in two ways: ReduceMax has its
axes as an attribute before opset 18, and as an input from there on.
"""

IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
"""The IR version of each opset, so that old engines load the file."""

AXES_ARE_INPUTS = 18
"""The first opset whose ReduceMax has its axes as an input."""

PACKED_OPSETS = {2: 25, 4: 21, 8: OPSET}
"""The first opset with signed integers of a width."""

_HALF_MIN_SIZE = 64
_HALF_MAX = 65504.0

Tensor = str
"""A tensor is its name in the graph."""

_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True)
class StoredWeight:
    """What the metadata tells of a quantized weight.

    Attributes:
        widths: of weight and input, such as ``w4a8``.
        grids: likewise, such as ``midrise/affine``.
    """

    widths: str
    grids: str


class GraphBuilder:
    """Collects the nodes and initializers of one component.

    Node and initializer names are ``component/path/...`` with the path of the checkpoint. What
    nodes hand over is only numbered (``ie.17`` in the image encoder): with full names, a quarter of
    what a 2-bit model has beside its weights would be names.

    Attributes:
        packed_widths: width of each packed initializer (see :meth:`packed`), by name.
        quantized: what is told of each quantized weight, by its name in the component.
        quantized_attentions: number of quantized attention products.
    """

    def __init__(self, component: ComponentSpec) -> None:
        """Start an empty graph with the inputs and outputs of ``component``."""
        self.component = component
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.packed_widths: dict[str, int] = {}
        self.quantized: dict[str, StoredWeight] = {}
        self.quantized_attentions = 0
        self._names: dict[str, int] = {}
        self._tensors = 0
        self._initials = "".join(word[0] for word in component.name.split("_"))
        self._widened: dict[str, Tensor] = {}

    # ------------------------------------------------------------------ names
    def input(self, name: str) -> Tensor:
        """Return the graph's name of the component's input ``name``."""
        return graph_name(self.component.name, name)

    def output(self, name: str, value: Tensor) -> None:
        """Give ``value`` out as the component's output ``name``."""
        node = helper.make_node(
            "Identity",
            [value],
            [graph_name(self.component.name, name)],
            name=self._unique(f"output/{name}"),
        )
        self.nodes.append(node)

    def _unique(self, name: str) -> str:
        full = graph_name(self.component.name, name)
        count = self._names.get(full, 0)
        self._names[full] = count + 1
        # Not a dot, behind which the checkpoint has numbers of its own.
        return full if count == 0 else f"{full}:{count}"

    def _next_tensor(self) -> Tensor:
        self._tensors += 1
        return f"{self._initials}.{self._tensors}"

    # ------------------------------------------------------------------ nodes
    def op(self, op_type: str, *inputs: Tensor, name: str, **attributes: Any) -> Tensor:
        """Append a node with one output and return it."""
        return self.multi_op(op_type, inputs, 1, name=name, **attributes)[0]

    def multi_op(
        self, op_type: str, inputs: Sequence[Tensor], outputs: int, *, name: str, **attributes: Any
    ) -> list[Tensor]:
        """Append a node with several outputs and return them."""
        node_name = self._unique(name)
        results = [self._next_tensor() for _ in range(outputs)]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), results, name=node_name, **attributes)
        )
        return results

    def constant(self, name: str, value: npt.ArrayLike, dtype: Any = np.float32) -> Tensor:
        """Store an array as an initializer; the same name and contents are stored once.

        Float numbers that half precision holds exactly are stored so, with a Cast behind them.
        """
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        array = array.reshape(np.shape(value))
        full = graph_name(self.component.name, name)
        if _fits_half(array):
            self._store(numpy_helper.from_array(array.astype(np.float16), full))
            if full not in self._widened:
                self._widened[full] = self.op("Cast", full, name=name, to=TensorProto.FLOAT)
            return self._widened[full]
        self._store(numpy_helper.from_array(array, full))
        return full

    def packed(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Tensor:
        """Store integers of ``bits`` bits in the narrowest type that holds them.

        Raises:
            UnsupportedModelError: the installed ``onnx`` does not know the type.
        """
        width = stored_bits(bits)
        data_type = getattr(TensorProto, f"INT{width}", None)
        if data_type is None:
            raise UnsupportedModelError(
                f"weights of {bits} bits need a newer version of onnx than {onnx.__version__}; "
                "run: pip install -U onnx"
            )
        full = graph_name(self.component.name, name)
        tensor = TensorProto(
            name=full, data_type=data_type, dims=codes.shape, raw_data=pack(codes, width)
        )
        self._store(tensor)
        self.packed_widths[full] = width
        return full

    def _store(self, tensor: onnx.TensorProto) -> None:
        known = self.initializers.setdefault(tensor.name, tensor)
        if known is not tensor and known.raw_data != tensor.raw_data:
            raise ValueError(f"two different constants are called {tensor.name}")

    def ints(self, *values: int) -> Tensor:
        """Return a 1-D int64 constant, shared by all that ask for the same values."""
        return self.constant("ints/" + "_".join(map(str, values)), values, np.int64)

    def scalar(self, value: float) -> Tensor:
        """Return a 0-D float32 constant, shared likewise."""
        return self.constant(f"scalars/{value!r}", np.float32(value))

    # ------------------------------------------------------- often used nodes
    def add(self, a: Tensor, b: Tensor, *, name: str) -> Tensor:
        """``a + b`` with broadcasting."""
        return self.op("Add", a, b, name=name)

    def mul(self, a: Tensor, b: Tensor, *, name: str) -> Tensor:
        """``a * b`` with broadcasting."""
        return self.op("Mul", a, b, name=name)

    def reshape(self, x: Tensor, *shape: int, name: str) -> Tensor:
        """Reshape; 0 keeps a dimension, one -1 is inferred."""
        return self.op("Reshape", x, self.ints(*shape), name=name)

    def transpose(self, x: Tensor, *perm: int, name: str) -> Tensor:
        """Permute the dimensions."""
        return self.op("Transpose", x, name=name, perm=list(perm))

    def concat(self, *inputs: Tensor, axis: int, name: str) -> Tensor:
        """Concatenate along ``axis``."""
        return self.op("Concat", *inputs, name=name, axis=axis)

    def split(self, x: Tensor, parts: int, size: int, *, axis: int, name: str) -> list[Tensor]:
        """Split ``axis`` into ``parts`` equal parts of ``size``."""
        sizes = self.ints(*([size] * parts))
        return self.multi_op("Split", [x, sizes], parts, name=name, axis=axis)

    def slice(
        self,
        x: Tensor,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int],
        steps: Sequence[int] | None = None,
        *,
        name: str,
    ) -> Tensor:
        """Slice ``x`` along ``axes``."""
        extra = [self.ints(*steps)] if steps is not None else []
        inputs = [self.ints(*starts), self.ints(*ends), self.ints(*axes), *extra]
        return self.op("Slice", x, *inputs, name=name)

    def expand(self, x: Tensor, *shape: int, name: str) -> Tensor:
        """Broadcast ``x`` with a tensor of ``shape`` (1 keeps a dimension)."""
        return self.op("Expand", x, self.ints(*shape), name=name)

    def largest(self, x: Tensor, *, name: str) -> Tensor:
        """Return the largest value along the last axis, which stays, with size 1."""
        return self.op("ReduceMax", x, name=name, axes=[-1], keepdims=1)

    # ----------------------------------------------------------------- result
    def graph_io(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """Return the typed inputs and outputs of the component."""

        def infos(tensors: Sequence[Any]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(
                    graph_name(self.component.name, t.name), _ELEMENT_TYPES[t.dtype], list(t.shape)
                )
                for t in tensors
            ]

        return infos(self.component.inputs), infos(self.component.outputs)


def _fits_half(array: npt.NDArray[Any]) -> bool:
    """Return whether an array is worth storing in half precision, and loses nothing by it."""
    if array.dtype != np.float32 or array.size < _HALF_MIN_SIZE:
        return False
    # Also False where something is not finite.
    if not np.all(np.abs(array) <= _HALF_MAX):
        return False
    return bool(np.array_equal(array.astype(np.float16).astype(np.float32), array))


def needed_opset(graphs: Sequence[GraphBuilder], wanted: int | None = None) -> int:
    """Return the lowest opset that knows the types of all weights, or ``wanted``.

    Raises:
        InputError: ``wanted`` is out of range, or lacks the type of a weight.
    """
    widths = {name: width for graph in graphs for name, width in graph.packed_widths.items()}
    opset = max((PACKED_OPSETS[width] for width in widths.values()), default=OPSET)
    if wanted is None:
        return opset
    if wanted not in IR_VERSIONS:
        raise InputError(f"the opset must be {OPSET} to {max(IR_VERSIONS)}, but got {wanted}")
    if wanted < opset:
        name, width = min(widths.items(), key=lambda item: item[1])
        raise InputError(
            f"opset {wanted} has no INT{width}, in which {name} is stored; give at least {opset}, "
            "or calibrate with more bits"
        )
    return wanted


def _spelled_nodes(graph: GraphBuilder, opset: int) -> list[onnx.NodeProto]:
    """Return the nodes of ``graph`` as ``opset`` spells them."""
    if opset < AXES_ARE_INPUTS:
        return graph.nodes
    return [_axes_as_input(graph, n) if n.op_type == "ReduceMax" else n for n in graph.nodes]


def _axes_as_input(graph: GraphBuilder, node: onnx.NodeProto) -> onnx.NodeProto:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = graph.ints(*attributes.pop("axes"))
    return helper.make_node(
        node.op_type, [node.input[0], axes], list(node.output), node.name, **attributes
    )


def model_from_graphs(
    graphs: Sequence[GraphBuilder],
    metadata: Mapping[str, str],
    producer_version: str,
    opset: int | None = None,
) -> onnx.ModelProto:
    """Join the components into one model of disconnected subgraphs.

    Args:
        graphs: one finished builder per component.
        metadata: entries of ``metadata_props``.
        producer_version: version of this package.
        opset: 17 to 25; default: the lowest that knows the types of all weights.

    Raises:
        InputError: ``opset`` cannot be had.
    """
    opset = needed_opset(graphs, opset)
    nodes, inputs, outputs, initializers = [], [], [], []
    for graph in graphs:
        graph_inputs, graph_outputs = graph.graph_io()
        nodes += _spelled_nodes(graph, opset)
        inputs += graph_inputs
        outputs += graph_outputs
        initializers += list(graph.initializers.values())
    model = helper.make_model(
        helper.make_graph(nodes, "sam2", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSIONS[opset],
        producer_name="qsam2-deploy",
        producer_version=producer_version,
    )
    helper.set_model_props(model, dict(metadata))
    return model
