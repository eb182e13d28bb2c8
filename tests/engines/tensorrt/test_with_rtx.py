"""TensorRT-RTX builds without a GPU, so what it says of our graphs can be seen anywhere."""

import importlib.util
from pathlib import Path

import pytest

from qsam2_deploy.engine_build.build import engine_from_onnx
from qsam2_deploy.engine_build.component import network_from_component
from qsam2_deploy.engines.tensorrt.adapter import Network, Plan, build_plan
from qsam2_deploy.engines.tensorrt.engine_file import Variant, read_engine
from qsam2_deploy.engines.tensorrt.layer_table import (
    FusedLayer,
    fused_attentions,
    fused_layers,
    integer_share,
)
from qsam2_deploy.engines.tensorrt.library import TENSORRT_RTX, find_library
from qsam2_deploy.engines.tensorrt.options import BuildOptions, Limits
from qsam2_deploy.engines.tensorrt.plan_blocks import packed_blocks
from qsam2_deploy.errors import EngineError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)

pytestmark = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("tensorrt_rtx", "tensorrt_rtx_bindings"))),
    reason="needs TensorRT-RTX",
)

ONE_GPU = BuildOptions(compute_capabilities=("8.9",))
LEAST_SHARE = {"int8": 0.95, "int4": 0.9}


def build(path: Path, component: str, variant: Variant) -> tuple[Plan, list[FusedLayer], Network]:
    """Return the plan, the builder's table of fused layers, and the network."""
    messages: list[str] = []
    network, _ = network_from_component(read_bundle(path), component, variant, Limits())
    plan = build_plan(
        find_library(TENSORRT_RTX), network, ONE_GPU, on_message=lambda _, m: messages.append(m)
    )
    return plan, fused_layers(messages), network


def share_of_integers(layers: list[FusedLayer], network: Network, precision: str) -> float | None:
    """Return the share of quantized weights that are multiplied as integers."""
    return integer_share(layers, network.weights, precision)


@pytest.mark.parametrize("component", [MEMORY_ATTENTION])
def test_attention_that_must_not_fuse_does_not(quantized_path, component):
    for fused in (True, False):
        _, layers, _ = build(quantized_path, component, Variant("fp16", fused))
        assert len(layers) > 20
        assert (fused_attentions(layers) > 0) == fused


@pytest.mark.parametrize("precision", LEAST_SHARE)
def test_integers_stay_integers(quantized_path, precision):
    plan, layers, network = build(quantized_path, MEMORY_ENCODER, Variant(precision))
    share = share_of_integers(layers, network, precision)
    assert len(plan.data) > 10_000
    assert share is not None
    assert share >= LEAST_SHARE[precision]


@pytest.mark.slow
def test_a_whole_engine(model_path, tmp_path):
    report = engine_from_onnx(
        model_path, tmp_path / "m.engine", precision="fp16", builder=TENSORRT_RTX, options=ONE_GPU
    )
    engine = read_engine(report.path)
    assert engine.header.target.compute_capabilities == ("8.9",)
    assert [len(engine.plans[name]) for name in COMPONENTS] == [p.bytes for p in report.plans]
    assert min(plan.layers for plan in report.plans) > 50
    told = engine.header.layers
    assert [told[name].quantized for name in COMPONENTS] == [0] * 4
    assert min(told[name].fused for name in COMPONENTS) > 10


def test_the_parser_names_the_layer_of_our_graph(model_path):
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
def test_an_official_size(tiny_path):
    """SAM 2.1 tiny at 1024 pixels: every component in every precision."""
    sizes = {}
    for component in COMPONENTS:
        for precision in ("fp16", *LEAST_SHARE):
            plan, layers, network = build(tiny_path, component, Variant(precision))
            sizes[component, precision] = sum(map(len, packed_blocks(plan.data)))
            if precision in LEAST_SHARE:
                share = share_of_integers(layers, network, precision)
                assert share is not None
                assert share >= LEAST_SHARE[precision], (component, precision)
    assert sizes[IMAGE_ENCODER, "int8"] <= 0.6 * sizes[IMAGE_ENCODER, "fp16"]
    assert sizes[IMAGE_ENCODER, "int4"] <= 0.4 * sizes[IMAGE_ENCODER, "fp16"]


@pytest.mark.slow
@pytest.mark.parametrize("component", [IMAGE_ENCODER, MEMORY_ATTENTION, MASK_DECODER])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_attention_of_an_official_size_must_not_fuse_either(tiny_path, component, precision):
    fused, broken = (build(tiny_path, component, Variant(precision, f))[1] for f in (True, False))
    assert fused_attentions(fused) >= 4
    assert fused_attentions(broken) == 0


@pytest.mark.slow
def test_base_plus(base_plus_path, tmp_path):
    """SAM 2.1 base+ at 1024 pixels in INT8, as one file: about 1 GB, half a minute of building."""
    report = engine_from_onnx(
        base_plus_path, tmp_path / "m.engine", precision="int8", builder=TENSORRT_RTX,
        options=ONE_GPU, show_progress=False,
    )  # fmt: skip
    engine = read_engine(report.path)
    assert engine.header.spec.image_size == 1024
    assert [len(engine.plans[name]) for name in COMPONENTS] == [p.bytes for p in report.plans]
    for told in engine.header.layers.values():
        assert told.integer >= 0.95 * told.quantized > 0
    encoder = report.plans[0]
    assert encoder.products > 120
    # 69 million weights in 8 bits, and the source text of the kernels.
    assert 69e6 < encoder.bytes < 95e6
    assert report.bytes < 0.95 * sum(plan.bytes for plan in report.plans)
