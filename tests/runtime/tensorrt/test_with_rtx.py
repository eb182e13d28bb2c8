"""TensorRT-RTX builds without a GPU, so what it says of our graphs can be seen anywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest

from qsam2_deploy.errors import EngineError
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.tensorrt.adapter import Network, Plan, build_plan
from qsam2_deploy.runtime.tensorrt.build import engine_from_onnx
from qsam2_deploy.runtime.tensorrt.component_build import network_from_component
from qsam2_deploy.runtime.tensorrt.engine_file import Variant, read_engine
from qsam2_deploy.runtime.tensorrt.layer_table import (
    fused_layers,
    integer_share,
    quantized_weights,
)
from qsam2_deploy.runtime.tensorrt.library import TENSORRT_RTX, find_library
from qsam2_deploy.runtime.tensorrt.options import BuildOptions, Limits
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER, MEMORY_ENCODER

pytestmark = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("tensorrt_rtx", "tensorrt_rtx_bindings"))),
    reason="needs TensorRT-RTX",
)

ONE_GPU = BuildOptions(compute_capabilities=("8.9",))
LEAST_SHARE = {"int8": 0.95, "int4": 0.9}


def build(path: Path, component: str, precision: str) -> tuple[Plan, float | None]:
    """Return the plan, and the share of quantized weights that it multiplies as integers."""
    messages: list[str] = []
    network, _ = network_from_component(read_bundle(path), component, Variant(precision), Limits())
    plan = build_plan(
        find_library(TENSORRT_RTX), network, ONE_GPU, on_message=lambda _, m: messages.append(m)
    )
    weights = quantized_weights(onnx.ModelProto.FromString(network.model))
    return plan, integer_share(fused_layers(messages), weights, precision)


@pytest.mark.parametrize("precision", LEAST_SHARE)
def test_integers_stay_integers(quantized_path: Path, precision: str) -> None:
    plan, share = build(quantized_path, MEMORY_ENCODER, precision)
    assert len(plan.data) > 10_000
    assert share is not None
    assert share >= LEAST_SHARE[precision]


def test_a_whole_engine(model_path: Path, tmp_path: Path) -> None:
    report = engine_from_onnx(
        model_path, tmp_path / "m.engine", precision="fp16", builder=TENSORRT_RTX, options=ONE_GPU
    )
    engine = read_engine(report.path)
    assert engine.header.target.compute_capabilities == ("8.9",)
    assert [len(engine.plans[name]) for name in COMPONENTS] == [p.bytes for p in report.plans]
    assert min(plan.layers for plan in report.plans) > 50


def test_the_parser_names_the_layer_of_our_graph(model_path: Path) -> None:
    bundle = read_bundle(model_path)
    model = bundle.components[MEMORY_ENCODER]
    node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    node.op_type, node.domain = "Unheard", "of"
    opset = model.opset_import.add()
    opset.domain, opset.version = "of", 1
    network = Network(bundle.spec.component(MEMORY_ENCODER), model.SerializeToString(), [])
    with pytest.raises(EngineError, match=f"refuses the layer {node.name} .Unheard.: "):
        build_plan(find_library(TENSORRT_RTX), network, BuildOptions())


@pytest.mark.slow
def test_an_official_size(tiny_path: Path) -> None:
    """SAM 2.1 tiny at 1024 pixels: every component in every precision."""
    sizes = {}
    for component in COMPONENTS:
        for precision in ("fp16", *LEAST_SHARE):
            plan, share = build(tiny_path, component, precision)
            sizes[component, precision] = len(plan.data)
            if precision in LEAST_SHARE:
                assert share is not None
                assert share >= LEAST_SHARE[precision], (component, precision)
    # 12 MB of each are kernels, whatever the precision.
    assert sizes[IMAGE_ENCODER, "int8"] <= 0.62 * sizes[IMAGE_ENCODER, "fp16"]
    assert sizes[IMAGE_ENCODER, "int4"] <= 0.43 * sizes[IMAGE_ENCODER, "fp16"]
