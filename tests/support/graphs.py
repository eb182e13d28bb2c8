"""ONNX models of a few nodes, made and compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.engines.openvino.requests import engine_settings, shared_core

Shapes = Mapping[str, Sequence[int | str | None] | None]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Shapes,
    outputs: Shapes,
    constants: Mapping[str, Any] | None = None,
    *,
    types: Mapping[str, int] | None = None,
    opset: int = 17,
    domain: str | None = None,
) -> onnx.ModelProto:
    """Return a model.

    Args:
        nodes: in order.
        inputs: shapes by name; None for an unknown one.
        outputs: the same.
        constants: arrays, numbers or tensors by name.
        types: of inputs and outputs that are no floats.
        opset: of ONNX; the format is the oldest that has it.
        domain: of other operators.
    """
    info = helper.make_tensor_value_info
    first, last = (
        [info(n, (types or {}).get(n, TensorProto.FLOAT), shape) for n, shape in ends.items()]
        for ends in (inputs, outputs)
    )
    tensors = [
        v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), n)
        for n, v in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "graph", first, last, tensors)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    version = {17: 8, 19: 9, 21: 10, 25: 13}[opset]
    return helper.make_model(graph, opset_imports=opsets, ir_version=version)


def compiled(model: onnx.ModelProto, settings: Mapping[str, Any] | None = None) -> Any:
    """Return a model as OpenVINO compiles it, as for the backend if no ``settings`` are given."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    core, chosen = shared_core(), engine_settings(1) if settings is None else dict(settings)
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", chosen)


def kernels_of(made: Any) -> list[tuple[str, str]]:
    """Return the kind of each operator that OpenVINO runs, and the kernel that it took."""
    known = [operator.get_rt_info() for operator in made.get_runtime_model().get_ops()]
    return [(str(i["layerType"].astype(str)), str(i["primitiveType"].astype(str))) for i in known]
