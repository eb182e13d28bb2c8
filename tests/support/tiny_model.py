"""A valid model file of the four components that computes nothing of use, made without torch."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qsam2_deploy._common.seal import seal
from qsam2_deploy.spec import COMPONENTS, SPEC_KEY, ModelSpec, TensorSpec, graph_name
from tests.predictors.fake_backend import fake_spec

Dropped = tuple[str, str] | None


def tiny_bytes(metadata: dict[str, str] | None = None, drop: Dropped = None) -> bytes:
    """Return the sealed file, without one input or output if ``drop`` names it."""
    return sealed(tiny_model(metadata, drop))


def sealed(model: Any) -> bytes:
    """Return a model as a file that ends with the digest of what is before it."""
    body: bytes = model.SerializeToString()
    return body + seal(body)


def tiny_model(metadata: dict[str, str] | None = None, drop: Dropped = None) -> Any:
    """Return the model without its seal."""
    spec = fake_spec()
    opset = [helper.make_opsetid("", 19)]
    model = helper.make_model(_graph(spec, drop), opset_imports=opset, ir_version=9)
    helper.set_model_props(model, metadata or {SPEC_KEY: spec.to_json()})
    return model


def _graph(spec: ModelSpec, drop: Dropped) -> Any:
    graph = onnx.GraphProto(name="tiny")
    for name in COMPONENTS:
        component = spec.component(name)
        graph.input.extend(_infos(name, component.inputs, drop))
        graph.output.extend(_infos(name, component.outputs, drop))
        source = next(
            (t for t in component.inputs if t.shape[0] == "B" and t.dtype == "float32"),
            component.inputs[0],
        )
        for tensor in component.outputs:
            _add_output(graph, name, source, tensor)
    return graph


def _add_output(graph: Any, component: str, source: TensorSpec, output: TensorSpec) -> None:
    """Let ``output`` be the sum over each object of ``source``, everywhere."""
    path = graph_name(component, output.name)
    axes = _constant(graph, f"{path}/axes", range(1, len(source.shape)))
    rank = len(output.shape) - 1
    ones = _constant(graph, f"{path}/ones", [-1] + [1] * rank)
    shape = _constant(graph, f"{path}/shape", [1, *output.shape[1:]])
    steps = (
        ("ReduceSum", [graph_name(component, source.name), axes], f"{path}/sum"),
        ("Reshape", [f"{path}/sum", ones], f"{path}/flat"),
        ("Expand", [f"{path}/flat", shape], path),
    )
    for op_type, inputs, result in steps:
        graph.node.append(helper.make_node(op_type, inputs, [result], name=f"{result}/node"))


def _constant(graph: Any, name: str, values: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(list(values), np.int64), name))
    return name


def _infos(component: str, tensors: Any, drop: Dropped) -> list[Any]:
    return [
        helper.make_tensor_value_info(
            graph_name(component, tensor.name),
            helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)),
            tensor.shape,
        )
        for tensor in tensors
        if (component, tensor.name) != drop
    ]
