"""Engines are run after the build: right ones are kept, wrong ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engine_build import build as build_module
from qsam2_deploy.engine_build import self_test as self_test_module
from qsam2_deploy.engine_build.build import EngineReport, engine_from_onnx
from qsam2_deploy.engine_build.reference import reference_cases, scene
from qsam2_deploy.engine_build.self_test import output_error, tolerance
from qsam2_deploy.engines.tensorrt.engine_file import Variant, read_engine
from qsam2_deploy.engines.tensorrt.gpu import Gpu
from qsam2_deploy.engines.tensorrt.options import BuildOptions
from qsam2_deploy.errors import EngineError, InputError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)
from tests import tensorrt_double as doubles
from tests.support.lowered_gpu import LoweredGpu, not_finite, slightly_wrong

FP16 = "fp16"


@pytest.fixture
def gpu() -> LoweredGpu:
    return LoweredGpu()


@pytest.fixture(autouse=True)
def _references_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference of a model is the same in every test."""

    def remembered(bundle: Any, precision: str) -> Any:
        key = bundle.digest, precision == "int8"
        if key not in _REFERENCES:
            _REFERENCES[key] = reference_cases(bundle, precision, 1)
        return _REFERENCES[key]

    monkeypatch.setattr(self_test_module, "reference_cases", remembered)


_REFERENCES: dict[Any, Any] = {}


def make(gpu: LoweredGpu, model: Path, output: Path, precision: str, **other: Any) -> EngineReport:
    return engine_from_onnx(
        model, output, precision=precision, library=gpu.library, open_runner=gpu.open_runner,
        show_progress=False, **other,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "fixture"),
    # Codes of 4 bits of random weights carry each rounding of a half to the outputs: at 128 pixels
    # by 0.2 to 0.5 deviations, depending on the version of ONNX Runtime.
    [("fp16", "quantized_path"), ("int8", "integer_attention_path"), ("int4", "quantized_path")],
)
def test_right_engines_pass(
    gpu: LoweredGpu, tmp_path: Path, precision: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    report = make(gpu, request.getfixturevalue(fixture), tmp_path / "m.engine", precision)
    assert report.self_test == "passed"
    assert [(name, precision, True) for name in COMPONENTS] == gpu.built
    for plan in report.plans:
        assert plan.error is not None
        assert 0 < plan.error < plan.tolerance
    gpu.check()


@pytest.mark.parametrize(
    "version",
    [
        doubles.VERSIONS[0],
        doubles.VERSIONS[-1],
        *(pytest.param(version, marks=pytest.mark.slow) for version in doubles.VERSIONS[1:-1]),
    ],
)
def test_wrong_fused_attention_is_broken_up(
    version: str, quantized_path: Path, tmp_path: Path
) -> None:
    gpu = LoweredGpu(version)
    gpu.faults[MEMORY_ATTENTION] = slightly_wrong
    report = make(gpu, quantized_path, tmp_path / "m.engine", FP16)
    assert report.self_test == (
        "passed; with fused attention memory_attention was wrong, and was built without it"
    )
    fused = {plan.component: plan.fused_attention for plan in report.plans}
    assert fused == {name: name != MEMORY_ATTENTION for name in COMPONENTS}
    header = read_engine(report.path).header
    assert header.variant(MEMORY_ATTENTION) == Variant(FP16, fused_attention=False)
    assert header.variant(IMAGE_ENCODER) == Variant(FP16)
    gpu.check()


@pytest.mark.parametrize("fault", [slightly_wrong, not_finite])
def test_what_stays_wrong_is_refused(
    gpu: LoweredGpu, quantized_path: Path, tmp_path: Path, fault: Any
) -> None:
    gpu.faults[MEMORY_ENCODER] = fault
    with pytest.raises(EngineError) as caught:
        make(gpu, quantized_path, tmp_path / "m.engine", FP16)
    message = str(caught.value)
    assert "the engine of memory_encoder" in message
    assert "memory differs from the model by" in message
    assert "0.02 is the limit; nothing was written" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())
    # It has no attention that could be broken up, so there is no second attempt.
    assert gpu.built[-1] == (MEMORY_ENCODER, FP16, True)
    assert len(gpu.built) == 4
    gpu.check()


def test_wrong_both_times_is_refused(
    gpu: LoweredGpu, quantized_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test_module, "TOLERANCE", 1e-9)
    with pytest.raises(EngineError, match=r"image_encoder \(fp16, attention not fused\) is wrong"):
        make(gpu, quantized_path, tmp_path / "m.engine", FP16)
    assert gpu.built == [(IMAGE_ENCODER, FP16, True), (IMAGE_ENCODER, FP16, False)]
    assert not list(tmp_path.iterdir())


def test_an_engine_that_cannot_be_run_is_an_error(
    gpu: LoweredGpu, quantized_path: Path, tmp_path: Path
) -> None:
    gpu.trt.script.load_fails = True
    with pytest.raises(EngineError, match="the self-test of image_encoder cannot be run") as caught:
        make(gpu, quantized_path, tmp_path / "m.engine", FP16)
    assert "cannot be loaded" in str(caught.value)
    assert "--no-self-test leaves it out" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_asked_for_unfused_it_is_built_once(
    gpu: LoweredGpu, quantized_path: Path, tmp_path: Path
) -> None:
    gpu.faults = dict.fromkeys((IMAGE_ENCODER, MEMORY_ATTENTION, MASK_DECODER), slightly_wrong)
    report = make(gpu, quantized_path, tmp_path / "m.engine", FP16, fused_attention=False)
    assert report.self_test == "passed"
    assert len(gpu.built) == 4
    gpu.check()


@pytest.mark.slow
def test_auto_keeps_the_fastest_right_one(
    gpu: LoweredGpu, quantized_path: Path, tmp_path: Path
) -> None:
    gpu.times = {
        (IMAGE_ENCODER, "int8"): 3.0, (IMAGE_ENCODER, "int4"): 5.0, (IMAGE_ENCODER, "fp16"): 7.0,
        (MEMORY_ATTENTION, "int8"): 9.0, (MEMORY_ATTENTION, "int4"): 5.0,
        (MEMORY_ATTENTION, "fp16"): 2.0,
        (MASK_DECODER, "int8"): 5.0, (MASK_DECODER, "int4"): 2.0, (MASK_DECODER, "fp16"): 4.0,
        (MEMORY_ENCODER, "int8"): 3.0, (MEMORY_ENCODER, "int4"): 3.5, (MEMORY_ENCODER, "fp16"): 4.0,
    }  # fmt: skip
    gpu.faults[MASK_DECODER] = not_finite
    report = make(gpu, quantized_path, tmp_path / "m.engine", "auto")
    kept = {plan.component: (plan.precision, plan.fused_attention) for plan in report.plans}
    assert kept == {
        IMAGE_ENCODER: ("int8", True),
        MEMORY_ATTENTION: ("fp16", True),
        MASK_DECODER: ("int4", False),
        MEMORY_ENCODER: ("int8", True),
    }
    times = {p.component: p.milliseconds for p in report.plans}
    assert times == {IMAGE_ENCODER: 3.0, MEMORY_ATTENTION: 2.0, MASK_DECODER: 2.0,
                     MEMORY_ENCODER: 3.0}  # fmt: skip
    assert len(report.tried) == 3 * 4 + 3  # the decoder twice
    assert report.precision == "mixed"
    header = read_engine(report.path).header
    assert {n: header.variant(n).precision for n in COMPONENTS} == {
        n: p for n, (p, _) in kept.items()
    }
    gpu.check()


def test_auto_tries_what_the_model_has(gpu: LoweredGpu, model_path: Path, tmp_path: Path) -> None:
    report = make(gpu, model_path, tmp_path / "m.engine", "auto")
    assert {trial.precision for trial in report.tried} == {"fp16"}
    assert report.precision == "fp16"
    gpu.faults[MEMORY_ENCODER] = not_finite
    with pytest.raises(EngineError, match=r"the engine of memory_encoder \(fp16"):
        make(gpu, model_path, tmp_path / "other.engine", "auto")
    with pytest.raises(InputError, match="auto tries attention both ways"):
        make(gpu, model_path, tmp_path / "other.engine", "auto", fused_attention=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m.engine"]


@pytest.mark.parametrize(
    ("found", "options", "reason"),
    [
        (None, BuildOptions(), "no GPU was found"),
        (Gpu("RTX 4090", "8.9"), BuildOptions(compute_capabilities=("8.6",)),
         "they are not for RTX 4090"),
    ],
)  # fmt: skip
def test_where_they_cannot_be_run_the_report_says_so(
    quantized_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Gpu | None,
    options: BuildOptions, reason: str,
) -> None:  # fmt: skip
    gpu = LoweredGpu("tensorrt_rtx-1.7")
    monkeypatch.setattr(build_module, "current_gpu", lambda: found)
    settings: dict[str, Any] = {"library": gpu.library, "options": options}
    report = engine_from_onnx(
        quantized_path, tmp_path / "m.engine", show_progress=False, **settings
    )
    assert report.self_test.startswith(f"not run: {reason}")
    assert {plan.error for plan in report.plans} == {None}
    with pytest.raises(EngineError, match=f"--auto times engines on the GPU.*{reason}"):
        engine_from_onnx(quantized_path, tmp_path / "auto.engine", precision="auto", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["m.engine"]


def test_the_reference_tracks_with_all_memories(quantized_path: Path) -> None:
    bundle = read_bundle(quantized_path)
    before = bundle.components[MEMORY_ATTENTION].SerializeToString(deterministic=True)
    cases = reference_cases(bundle, "int8", 1)
    assert bundle.components[MEMORY_ATTENTION].SerializeToString(deterministic=True) == before
    sizes = [(c.inputs["memory"].shape[1], c.inputs["pointers"].shape[1])
             for c in cases[MEMORY_ATTENTION]]  # fmt: skip
    assert sizes == [(1, 1), (7, 16)]
    memory = cases[MEMORY_ATTENTION][-1].inputs["memory"][0]
    assert len({frame.tobytes() for frame in memory}) == 7
    assert {case.inputs["point_labels"].tolist()[0][0] for case in cases[MASK_DECODER]} == {1, -1}
    again = reference_cases(bundle, "int8", 1)
    for name in COMPONENTS:
        for case, same in zip(cases[name], again[name], strict=True):
            for tensor, value in case.outputs.items():
                np.testing.assert_array_equal(value, same.outputs[tensor])
    rounded = cases[IMAGE_ENCODER][0].outputs["features"]
    plain = reference_cases(bundle, "fp16", 1)[IMAGE_ENCODER][0].outputs["features"]
    assert output_error({"x": plain}, {"x": rounded})[0] > tolerance(bundle.spec, "fp16")


def test_the_scene_moves() -> None:
    first, second = scene(64, 0), scene(64, 8)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first[:4], second[:4])
    assert (first != second).any()


def test_errors_are_in_deviations() -> None:
    wanted = np.tile(np.array([-2, 2], np.float32), 32)
    assert output_error({"y": wanted + 1}, {"y": wanted}) == (0.5, "y")
    score = np.array([[4.0]], np.float32)
    error, name = output_error({"y": wanted, "score": score + 1}, {"y": wanted, "score": score})
    assert (error, name) == (0.25, "score")
    assert output_error({"y": not_finite(wanted)}, {"y": wanted})[0] == np.inf
    assert output_error({"y": wanted * np.float32(1e38)}, {"y": wanted})[0] > 1e30
    with pytest.raises(EngineError, match=r"gives nothing for y, but \[64\] was expected"):
        output_error({}, {"y": wanted})
    with pytest.raises(EngineError, match=r"gives \[32\] for y"):
        output_error({"y": wanted[:32]}, {"y": wanted})
