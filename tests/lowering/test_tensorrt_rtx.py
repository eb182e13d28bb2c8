"""TensorRT-RTX builds engines without a GPU, so it can say here whether it takes our graphs."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest

from qsam2_deploy.lowering import lower_for_tensorrt_int4, lower_for_tensorrt_int8
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)

# The wheels are tensorrt_rtx_cu13_libs and tensorrt_rtx_cu13_bindings.
BINDINGS = "tensorrt_rtx_bindings"

DYNAMIC = {"B": (1, 1, 4), "F": (1, 7, 7), "N": (1, 16, 16), "P": (1, 2, 8)}
"""Smallest, usual and largest dynamic dimensions."""


def build(trt: Any, model: onnx.ModelProto) -> Any:
    """Return the engine of a component, or raise with what the parser says."""
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, builder.logger)
    assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for tensor in model.graph.input:
        dims = [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
        if any(isinstance(d, str) for d in dims):
            shapes = [[DYNAMIC[d][i] if d in DYNAMIC else d for d in dims] for i in range(3)]
            profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


LOWER = {"int8": lower_for_tensorrt_int8, "int4": lower_for_tensorrt_int4}


def check_that_it_builds(path: Path, component: str, precision: str) -> None:
    trt = pytest.importorskip(BINDINGS, reason="needs TensorRT-RTX")
    model = read_bundle(path).components[component]
    LOWER[precision](model)
    engine = build(trt, model)
    assert engine is not None
    assert engine.nbytes > 0


QUICK = {
    ("int4", IMAGE_ENCODER), ("int8", MEMORY_ATTENTION), ("int8", MASK_DECODER),
    ("int4", MEMORY_ENCODER),
}  # fmt: skip
"""Every component, and every precision twice."""


@pytest.mark.parametrize(
    ("precision", "component"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(LOWER, COMPONENTS)
    ],
)
def test_it_builds_an_engine(quantized_path, component, precision):
    check_that_it_builds(quantized_path, component, precision)


@pytest.mark.parametrize(
    "component", [pytest.param(IMAGE_ENCODER, marks=pytest.mark.slow), MEMORY_ATTENTION]
)
def test_it_builds_an_engine_without_the_steps_of_attention(integer_attention_path, component):
    check_that_it_builds(integer_attention_path, component, "int8")


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("precision", LOWER)
def test_it_builds_an_engine_of_an_official_size(tiny_path, component, precision):
    check_that_it_builds(tiny_path, component, precision)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_precision_has_its_types(quantized_path, component):
    model = read_bundle(quantized_path).components[component]
    lower_for_tensorrt_int8(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] > 0
    assert {t.data_type for t in model.graph.initializer} <= {1, 3, 6, 7}  # no packed integers
    assert model.opset_import[0].version == 17

    model = read_bundle(quantized_path).components[component]
    blocked = lower_for_tensorrt_int4(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] == 0
    assert kinds["DequantizeLinear"] == blocked > 0
    types = Counter(t.data_type for t in model.graph.initializer)
    assert types[onnx.TensorProto.INT8] == 0
    assert types[onnx.TensorProto.INT4] > 0
