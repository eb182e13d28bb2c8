"""From a model to an engine file, with a stand-in for the library."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from qsam2_deploy.engine_build import build as build_module
from qsam2_deploy.engine_build.build import EngineReport, engine_from_onnx
from qsam2_deploy.engines.tensorrt.engine_file import Target, Variant, read_engine
from qsam2_deploy.engines.tensorrt.gpu import Gpu
from qsam2_deploy.engines.tensorrt.options import BuildOptions, Limits
from qsam2_deploy.errors import EngineError, InputError, ModelFileError, UnsupportedModelError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS, MASK_DECODER
from tests.engines.tensorrt.fake_library import FakeTensorRT


@pytest.fixture
def trt() -> FakeTensorRT:
    return FakeTensorRT()


@pytest.fixture(autouse=True)
def gpu(monkeypatch) -> None:
    monkeypatch.setattr(build_module, "current_gpu", lambda: Gpu("Orin", "8.7"))


def lowered(trt: FakeTensorRT, operator: str) -> int:
    """Return how many nodes of a kind the parser was given."""
    nodes = (n for data in trt.parsed for n in onnx.ModelProto.FromString(data).graph.node)
    return sum(node.op_type == operator for node in nodes)


def make(trt: FakeTensorRT, model: Path, output: Path, **other: Any) -> EngineReport:
    builder = other.pop("builder", "tensorrt")
    return engine_from_onnx(model, output, library=trt.library(builder), self_test=False, **other)


def test_attention_can_be_kept_from_fusing(trt, quantized_path, tmp_path):
    fused = make(trt, quantized_path, tmp_path / "m.engine", precision="fp16")
    assert lowered(trt, "Softmax") > 10
    assert lowered(trt, "ReduceSum") == 1  # of the memory
    assert all(
        read_engine(fused.path).header.variant(name) == Variant("fp16") for name in COMPONENTS
    )
    trt.parsed.clear()
    broken = make(
        trt, quantized_path, tmp_path / "m.engine", precision="fp16", fused_attention=False
    )
    assert lowered(trt, "ReduceSum") == 1 + lowered(trt, "Softmax") > 10
    assert not any(plan.fused_attention for plan in broken.plans)
    header = read_engine(broken.path).header
    assert {header.variant(name) for name in COMPONENTS} == {Variant("fp16", fused_attention=False)}


def test_the_file_holds_every_plan(trt, quantized_path, tmp_path):
    report = make(trt, quantized_path, tmp_path / "m.engine")
    engine, bundle = read_engine(report.path), read_bundle(quantized_path)
    wanted = {n: b"plan " + m[-20:] for n, m in zip(COMPONENTS, trt.parsed, strict=True)}
    assert {name: bytes(plan) for name, plan in engine.plans.items()} == wanted
    assert engine.header.model_sha256 == bundle.digest
    assert engine.header.target == Target("Orin", ("8.7",))
    assert (engine.header.precision, engine.header.builder_version) == ("int8", "10.3.0")
    assert [p.component for p in report.plans] == list(COMPONENTS)
    assert all(plan.products > 0 and plan.layers == 7 for plan in report.plans)
    assert report.bytes == report.path.stat().st_size
    assert report.to_json()["path"] == "m.engine"


def test_networks_are_strongly_typed(trt, model_path, tmp_path):
    """The bit is at the flag's own number, which is another in each version."""
    make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    assert trt.flags == [1 << 1] * 4
    types = {
        tensor.data_type
        for data in trt.parsed
        for tensor in onnx.ModelProto.FromString(data).graph.initializer
    }
    assert onnx.TensorProto.FLOAT16 in types


def test_every_dynamic_input_has_its_shapes(trt, model_path, tmp_path):
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", limits=Limits(2, 5, 1))
    encoder, attention, decoder, _ = [config.profiles for config in trt.configs]
    assert encoder == []
    warm_up, steady = attention
    assert warm_up["memory"][2] == (2, 7, 8, 4, 4)
    assert steady["memory"][0] == (1, 7, 8, 4, 4)
    assert warm_up["pointer_tpos"] == ((0,), (16,), (16,))
    assert decoder[0]["point_labels"] == ((1, 1), (1, 2), (2, 5))
    spec = read_bundle(model_path).spec.component(MASK_DECODER)
    dynamic = {t.name for t in spec.inputs if any(isinstance(d, str) for d in t.shape)}
    assert set(decoder[0]) == dynamic


def test_options_reach_the_builder(trt, model_path, tmp_path):
    options = BuildOptions(256, 5, "ampere_plus", version_compatible=True)
    report = make(trt, model_path, tmp_path / "m.engine", precision="fp16", options=options)
    for config in trt.configs:
        assert config.pools == {"workspace": 256 << 20}
        assert config.builder_optimization_level == 5
        assert config.set_flags == ["vc", "no lean"]
        assert config.hardware_compatibility_level == 1
    assert report.target == Target("Orin", ("8.7",), "ampere_plus", version_compatible=True)


def test_without_options_the_library_decides(trt, model_path, tmp_path):
    make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    config = trt.configs[0]
    assert not config.pools
    assert not config.set_flags
    assert not hasattr(config, "builder_optimization_level")
    assert not hasattr(config, "hardware_compatibility_level")


@pytest.mark.parametrize(
    ("asked", "kept", "members"),
    [(("8.6", "8.9"), ("8.6", "8.9"), {0: 86, 1: 89}), (("current",), ("8.7",), {0: 1})],
)
def test_compute_capabilities_of_rtx(trt, model_path, tmp_path, asked, kept, members):
    trt.__version__ = "1.7.1"
    options = BuildOptions(compute_capabilities=asked)
    report = make(trt, model_path, tmp_path / "m.engine", precision="fp16", options=options,
                  builder="tensorrt-rtx")  # fmt: skip
    assert report.target == Target("", kept)
    assert trt.configs[0].capabilities == members
    assert trt.configs[0].num_compute_capabilities == len(asked)


def test_rtx_builds_for_all_but_turing(trt, model_path, tmp_path):
    report = make(trt, model_path, tmp_path / "m.engine", precision="fp16", builder="tensorrt-rtx")
    assert report.target == Target(hardware_compatibility="ampere_plus")
    assert trt.configs[0].capabilities == {}


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("tensorrt", BuildOptions(hardware_compatibility="same_compute_capability"),
         "TensorRT 10.3.0 has no hardware compatibility SAME_COMPUTE_CAPABILITY"),
        ("tensorrt-rtx", BuildOptions(compute_capabilities=("9.9",)), "compute capability SM99"),
        ("tensorrt-rtx", BuildOptions(version_compatible=True), "no version compatibility"),
    ],
)  # fmt: skip
def test_what_this_library_has_not_is_refused(trt, model_path, tmp_path, builder, options, message):
    with pytest.raises(InputError, match=message):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16", builder=builder,
             options=options)  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_current_capability_needs_a_gpu(trt, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "current_gpu", lambda: None)
    with pytest.raises(InputError, match="'current' needs a GPU"):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16", builder="tensorrt-rtx",
             options=BuildOptions(compute_capabilities=("current",)))  # fmt: skip


def test_timings_go_from_one_component_to_the_next(trt, model_path, tmp_path):
    cache = tmp_path / "timings"
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", timing_cache=cache)
    assert cache.read_bytes() == b"++++"
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", timing_cache=cache)
    assert cache.read_bytes() == b"++++++++"
    cache.write_bytes(b"foreign")
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", timing_cache=cache)
    assert cache.read_bytes() == b"++++"
    with pytest.raises(InputError, match="cannot read the timing cache"):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16", timing_cache=tmp_path)
    cache.chmod(0o666)
    with pytest.raises(InputError, match="is not used: everybody can write to the file; correct"):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16", timing_cache=cache)


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        ("model_path", "int8", "a float model and has no integers.*or build with --fp16"),
        ("model_path", "int4", "a float model and has no weights that fit INT4.*--fp16"),
        ("integer_attention_path", "int4", "of w8a8 and has no weights that fit INT4.*--int8 or"),
    ],
)
def test_a_model_without_these_integers_is_refused(
    trt, tmp_path, model, precision, message,
    request
):  # fmt: skip
    path: Path = request.getfixturevalue(model)
    with pytest.raises(UnsupportedModelError, match=message):
        make(trt, path, tmp_path / "m.engine", precision=precision)
    assert trt.parsed == []
    assert not list(tmp_path.iterdir())


def test_the_parser_names_our_layer(trt, model_path, tmp_path):
    trt.fault = SimpleNamespace(desc="no such\nthing", node=3, node_name="image_encoder/x",
                                node_operator="Erf")  # fmt: skip
    with pytest.raises(EngineError) as caught:
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    assert str(caught.value) == (
        "TensorRT 10.3.0 refuses the layer image_encoder/x (Erf): no such thing"
    )
    trt.fault.node_name = ""
    third = onnx.ModelProto.FromString(trt.parsed[-1]).graph.node[3].name
    with pytest.raises(EngineError, match=f"refuses the layer {third} "):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    trt.fault.node, trt.fault.node_operator = -1, ""
    with pytest.raises(EngineError, match="refuses the layer image_encoder: no such"):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (["first", "last\nreason"], "TensorRT 10.3.0 cannot build image_encoder: last reason$"),
        (["Error Code 2: OutOfMemory (requested 9 bytes)"], "^the device ran out of memory"),
        (["CUDA: out of memory", "no implementation"], "smaller --workspace or fewer --max-obj"),
    ],
)
def test_a_failed_build_is_one_sentence(trt, model_path, tmp_path, errors, message):
    trt.errors = errors
    with pytest.raises(EngineError, match=message):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_tensorrt_cannot_start(trt, model_path, tmp_path):
    trt.has_gpu = False
    with pytest.raises(EngineError, match="cannot start: it needs an NVIDIA GPU"):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")


def test_messages_and_phases_are_passed_on(trt, model_path, tmp_path, capsys):
    heard: list[tuple[str, str]] = []
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", show_progress=True,
         on_message=lambda severity, text: heard.append((severity, text)))  # fmt: skip
    assert heard == [("warning", "a warning")] * 4
    assert trt.configs[0].profiling_verbosity == "detailed"
    shown = capsys.readouterr().err
    assert "image_encoder: first" in shown
    assert "memory_encoder: second" in shown
    make(trt, model_path, tmp_path / "m.engine", precision="fp16", show_progress=False)
    assert capsys.readouterr().err == ""


def test_an_interrupt_stops_the_build_in_good_order(trt, model_path, tmp_path, monkeypatch):
    def interrupt(self: object, phase: str, step: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qsam2_deploy._common.progress.StepBar.reach", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(trt, model_path, tmp_path / "m.engine", precision="fp16")
    assert len(trt.parsed) == 1
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_told_before_the_work(trt, model_path, tmp_path):
    for output, precision, error, message in (
        (
            tmp_path / "m.engine",
            "int2",
            InputError,
            "one of fp16, int8, int4, auto, but got 'int2'",
        ),
        (tmp_path, "fp16", InputError, "it is a folder"),
        (tmp_path / "none" / "m.engine", "fp16", InputError, "the folder does not exist"),
    ):
        with pytest.raises(error, match=message):
            make(trt, model_path, output, precision=precision)
    with pytest.raises(ModelFileError, match="there is no model"):
        make(trt, tmp_path / "none.onnx", tmp_path / "m.engine")
    assert trt.parsed == []
    assert "torch" not in vars(sys.modules[build_module.__name__])
