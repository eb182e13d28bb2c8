"""A small builder of ONNX graphs, one for each component.

The graphs are written node by node instead of being traced: names stay those of the checkpoint,
dynamic dimensions are dynamic by construction, constants that an engine can compute are left to
the engine, and a quantized layer is emitted as QDQ where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..spec import ComponentSpec, graph_name

OPSET = 17
"""LayerNormalization needs 17; every engine that we target reads it with INT8 QDQ."""

IR_VERSION = 8
"""The IR version of opset 17, so that old engines load the file."""

Tensor = str
"""A tensor is its name in the graph."""

_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}


class GraphBuilder:
    """Collects the nodes and initializers of one component.

    Tensor and node names are ``component/scope/...``; :meth:`scope` returns a builder that writes
    to the same graph under a longer name.
    """

    def __init__(self, component: ComponentSpec) -> None:
        """Start an empty graph with the inputs and outputs of ``component``."""
        self.component = component
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names: dict[str, int] = {}

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
        return full if count == 0 else f"{full}.{count}"

    # ------------------------------------------------------------------ nodes
    def op(self, op_type: str, *inputs: Tensor, name: str, **attributes: Any) -> Tensor:
        """Append a node with one output and return it."""
        return self.multi_op(op_type, inputs, 1, name=name, **attributes)[0]

    def multi_op(
        self, op_type: str, inputs: Sequence[Tensor], outputs: int, *, name: str, **attributes: Any
    ) -> list[Tensor]:
        """Append a node with several outputs and return them."""
        node_name = self._unique(f"{name}/{op_type}")
        results = [node_name if outputs == 1 else f"{node_name}:{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), results, name=node_name, **attributes)
        )
        return results

    def constant(self, name: str, value: npt.ArrayLike, dtype: Any = np.float32) -> Tensor:
        """Store an array as an initializer; the same name and contents are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        array = array.reshape(np.shape(value))
        full = graph_name(self.component.name, name)
        tensor = numpy_helper.from_array(array, full)
        known = self.initializers.setdefault(full, tensor)
        if known is not tensor and known.raw_data != tensor.raw_data:
            raise ValueError(f"two different constants are called {full}")
        return full

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


def model_from_graphs(
    graphs: Sequence[GraphBuilder], metadata: dict[str, str], producer_version: str
) -> onnx.ModelProto:
    """Join the components into one model of disconnected subgraphs.

    Args:
        graphs: one finished builder per component.
        metadata: entries of ``metadata_props``.
        producer_version: version of this package.
    """
    nodes, inputs, outputs, initializers = [], [], [], []
    for graph in graphs:
        graph_inputs, graph_outputs = graph.graph_io()
        nodes += graph.nodes
        inputs += graph_inputs
        outputs += graph_outputs
        initializers += list(graph.initializers.values())
    model = helper.make_model(
        helper.make_graph(nodes, "sam2", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="qsam2-deploy",
        producer_version=producer_version,
    )
    helper.set_model_props(model, metadata)
    return model
