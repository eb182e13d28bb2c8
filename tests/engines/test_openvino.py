"""OpenVINO computes what ONNX Runtime computes, from the same file."""

import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.openvino import requests as openvino_requests
from qsam2_deploy.engines.openvino.backend import OpenVinoBackend
from qsam2_deploy.engines.openvino.requests import (
    FIXED_AFTER,
    KEPT_MODELS,
    Requests,
    engine_settings,
    shared_core,
)
from qsam2_deploy.engines.protocol import engine_of
from qsam2_deploy.errors import EngineError, InputError, MissingDependencyError
from qsam2_deploy.lowering import lower_for_openvino
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.predictors.segmenter import Prompt, VideoSegmenter
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER, MEMORY_ATTENTION, MEMORY_ENCODER, ModelSpec
from tests.support.components import all_outputs, assert_equal, random_inputs
from tests.support.marks import slow

TOLERANCE = 2e-4
"""Largest difference of a float model, as a share of the range of ONNX Runtime's numbers."""


@pytest.fixture(scope="module")
def opened(model_path) -> Any:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    with OpenVinoBackend(model_path, threads=1) as backend:
        yield backend


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_numbers_are_those_of_onnx_runtime(opened, model_path, component):
    feeds = random_inputs(opened.spec, component)
    found = opened.run(component, feeds)
    with open_backend(model_path, "ort", threads=1) as other:
        expected = other.run(component, feeds)
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert (found[name].shape, found[name].dtype) == (wanted.shape, wanted.dtype)
        assert np.abs(found[name] - wanted).max() <= TOLERANCE * max(np.ptp(wanted), 1e-3)


@pytest.mark.parametrize(("frames", "pointers"), [(1, 1), (7, 16), (2, 5), (1, 0)])
def test_dynamic_sizes_may_change_from_call_to_call(opened, model_path, frames, pointers):
    feeds = attention_inputs(opened.spec, frames, pointers, objects=2)
    found = opened.run(MEMORY_ATTENTION, feeds)["conditioned"]
    with open_backend(model_path, "ort", threads=1) as other:
        expected = other.run(MEMORY_ATTENTION, feeds)["conditioned"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.ptp(expected))


def attention_inputs(spec: ModelSpec, frames: int, pointers: int, objects: int) -> Any:
    rng = np.random.default_rng(frames)
    h, m, c = spec.feature_size, spec.memory_dim, spec.d_model
    feeds = {
        "features": rng.standard_normal((1, c, h, h)),
        "memory": rng.standard_normal((objects, frames, m, h, h)),
        "memory_tpos": np.arange(frames),
        "pointers": rng.standard_normal((objects, pointers, c)),
        "pointer_tpos": np.arange(pointers) / 15,
    }
    return {k: v.astype(np.int64 if k == "memory_tpos" else np.float32) for k, v in feeds.items()}


def memory_attention(path: Path) -> Requests:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    component = read_bundle(path).components[MEMORY_ATTENTION]
    lower_for_openvino(component)
    lowered = component.SerializeToString()
    return Requests(lowered, MEMORY_ATTENTION, engine_settings(1), ("memory", "pointers"))


@pytest.mark.parametrize("frames", [1, 2, 7, *(slow(n) for n in range(3, 7))])
def test_a_model_of_its_own_for_sizes_that_repeat(integer_attention_path, frames):
    requests = memory_attention(integer_attention_path)
    spec = read_bundle(integer_attention_path).spec
    feeds = attention_inputs(spec, frames, pointers=min(frames, 3), objects=1 + frames % 2)
    found = [requests.infer(feeds)["conditioned"].copy() for _ in range(FIXED_AFTER + 1)]
    assert [dict(sizes)["memory"] for sizes in requests.fixed_sizes] == [feeds["memory"].shape]
    for value in found[1:]:
        assert np.abs(value - found[0]).mean() <= 1e-3 * np.ptp(found[0])
    with open_backend(integer_attention_path, "ort", threads=1) as other:
        expected = other.run(MEMORY_ATTENTION, feeds)["conditioned"]
    assert found[-1].shape == expected.shape
    # Apart by steps of a grid here and there, where sums lie in the middle of two codes.
    assert np.abs(found[-1] - expected).mean() <= 2e-3 * np.ptp(expected)


def test_models_for_certain_sizes_are_few(model_path):
    requests, spec = memory_attention(model_path), read_bundle(model_path).spec
    shapes = [(frames, 1, 1) for frames in range(1, KEPT_MODELS + 3)]
    for shape in shapes:  # as the first frames of a video
        requests.infer(attention_inputs(spec, *shape))
    assert requests.fixed_sizes == []
    for shape in shapes:
        for _ in range(FIXED_AFTER):
            requests.infer(attention_inputs(spec, *shape))
    frames = [dict(sizes)["memory"][1] for sizes in requests.fixed_sizes]
    assert frames == [shape[0] for shape in shapes[-KEPT_MODELS:]]


def test_groups_of_objects_that_take_turns(model_path):
    requests, spec = memory_attention(model_path), read_bundle(model_path).spec
    for _ in range(FIXED_AFTER):
        for objects in (1, 2):
            requests.infer(attention_inputs(spec, 2, 1, objects))
    assert [dict(sizes)["memory"][0] for sizes in requests.fixed_sizes] == [1, 2]


def test_a_component_of_fixed_sizes_is_compiled_once(model_path):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    bundle = read_bundle(model_path)
    component = bundle.components[IMAGE_ENCODER]
    lower_for_openvino(component)
    requests = Requests(component.SerializeToString(), IMAGE_ENCODER, engine_settings(1))
    for _ in range(FIXED_AFTER + 1):
        requests.infer(random_inputs(bundle.spec, IMAGE_ENCODER))
    assert requests.fixed_sizes == []


# ------------------------------------------------------------------ compiled models on disk
COMPILED = sorted([*COMPONENTS, *(name for name in COMPONENTS if name != IMAGE_ENCODER)])
"""For one object, and for the two of `random_inputs`."""


def outputs(
    path: Path, cache: Path | None, components: Sequence[str] = COMPONENTS, **options: Any
) -> dict[str, Any]:
    with OpenVinoBackend(path, threads=1, cache=cache, **options) as backend:
        return all_outputs(backend, components)


@pytest.fixture(scope="module")
def plain(model_path) -> dict[str, Any]:
    """The outputs of models that were compiled for nothing but them."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    return outputs(model_path, None)


@pytest.fixture(scope="module")
def compiled(model_path, tmp_path_factory) -> Path:
    """A folder with all compiled models, to be copied."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    folder = tmp_path_factory.mktemp("compiled")
    outputs(model_path, folder)
    return folder


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """The components that have been compiled since the start of the test."""
    names: list[str] = []

    def counted(lowered: bytes, name: str, *rest: Any) -> Any:
        names.append(name)
        return original(lowered, name, *rest)

    original = openvino_requests._compiled
    monkeypatch.setattr(openvino_requests, "_compiled", counted)
    return names


def test_the_second_opening_compiles_nothing(model_path, tmp_path, plain, compilations):
    assert_equal(outputs(model_path, tmp_path), plain)
    assert sorted(compilations) == COMPILED
    assert len(list(tmp_path.glob("*.compiled"))) == len(COMPILED)
    compilations.clear()
    assert_equal(outputs(model_path, tmp_path), plain)
    assert compilations == []


def test_damaged_and_foreign_compiled_models_are_made_anew(
    model_path, tmp_path, plain, compiled, compilations, monkeypatch
):
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.glob("*.compiled"))
    whole = {path: path.read_bytes() for path in files}
    flipped = bytearray(whole[files[0]])
    flipped[len(flipped) // 2] ^= 1
    files[0].write_bytes(flipped)
    files[1].write_bytes(whole[files[2]])
    assert_equal(outputs(model_path, tmp_path), plain)
    assert len(compilations) == 2
    compilations.clear()
    # Sealed, but OpenVINO cannot read it.
    monkeypatch.setattr(openvino_requests.LoweredCache, "load_opaque", lambda *_: b"no model")
    assert_equal(outputs(model_path, tmp_path), plain)
    assert sorted(compilations) == COMPILED


def test_another_processor_compiles_its_own(
    model_path, tmp_path, compiled, compilations, monkeypatch
):
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    outputs(model_path, tmp_path, (MEMORY_ENCODER,))
    assert compilations == []
    monkeypatch.setattr("qsam2_deploy.engines.openvino.backend.cpu_model", lambda: "another one")
    outputs(model_path, tmp_path, (MEMORY_ENCODER,))
    assert sorted(compilations) == sorted([*COMPONENTS, MEMORY_ENCODER])


# ------------------------------------------------------------------ precision
class Capable:
    """A core that says what its processor can do."""

    def __init__(self, capabilities: list[str]) -> None:
        self._capabilities = capabilities

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._capabilities


def test_fast_needs_bfloat16(model_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    monkeypatch.setattr(
        "qsam2_deploy.engines.openvino.backend.shared_core", lambda: Capable(["FP32", "INT8"])
    )
    with pytest.warns(UserWarning, match="no bfloat16, so precision 'fast' computes exactly"):
        backend = open_backend(model_path, "openvino", threads=1, precision="fast")
    assert engine_of(backend) == "openvino, exact"
    monkeypatch.setattr(
        "qsam2_deploy.engines.openvino.backend.shared_core", lambda: Capable(["BF16"])
    )
    backend = open_backend(model_path, "openvino", threads=1, precision="fast")
    assert engine_of(backend) == "openvino, fast"
    hints = {p: engine_settings(1, p)["INFERENCE_PRECISION_HINT"] for p in ("exact", "fast")}
    assert hints == {"exact": "f32", "fast": "bf16"}


def test_what_this_processor_says_is_what_it_does(model_path, plain):
    has_bfloat16 = "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = outputs(model_path, None, precision="fast")
    assert len(told) == (0 if has_bfloat16 else 1)
    if not has_bfloat16:
        assert_equal(found, plain)


def test_onnx_runtime_has_nothing_faster(model_path):
    with pytest.warns(UserWarning, match="^ONNX Runtime has no faster floats on a CPU, so"):
        backend = open_backend(model_path, "ort", threads=1, precision="fast")
    assert engine_of(backend) == "ort, exact"


@pytest.mark.parametrize("backend", ["auto", "ort", "openvino"])
def test_another_precision_is_refused(model_path, backend):
    with pytest.raises(InputError, match="precision must be one of exact, fast, but got 'bf16'"):
        open_backend(model_path, backend, precision="bf16")


def test_results_stay_what_they_are(opened):
    """The engine reuses its memory; what it gave out must not change with the next call."""
    feeds = random_inputs(opened.spec, IMAGE_ENCODER)
    first = opened.run(IMAGE_ENCODER, feeds)["features"]
    kept = first.copy()
    second = opened.run(IMAGE_ENCODER, {"image": -feeds["image"]})["features"]
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(first, kept)


def test_inputs_need_not_be_contiguous(opened):
    image = random_inputs(opened.spec, IMAGE_ENCODER)["image"]
    expected = opened.run(IMAGE_ENCODER, {"image": image})["features"]
    strided = opened.run(IMAGE_ENCODER, {"image": np.asfortranarray(image)})["features"]
    np.testing.assert_array_equal(strided, expected)


@pytest.mark.parametrize(
    ("fixture", "overlap"), [("model_path", 0.99), slow("integer_attention_path", 0.9)]
)
def test_masks(fixture, overlap, request):
    """Tracking with both engines: half of the frame, or all where the object is said to be away."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    path: Path = request.getfixturevalue(fixture)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 8, 10, 3), np.uint8).repeat(12, 1).repeat(12, 2)
    logits = {}
    for name in ("ort", "openvino"):
        with VideoSegmenter(path, backend=name, threads=1) as segmenter:
            prompts = [Prompt(object_id=1, points=[(60, 48)], labels=[1])]
            logits[name] = [segmenter.track(f, prompts if i == 0 else [])[1].logits
                            for i, f in enumerate(frames)]  # fmt: skip
    for found, expected in zip(logits["openvino"], logits["ort"], strict=True):
        ours, theirs = (values >= np.median(expected) for values in (found, expected))
        assert theirs.any()
        assert (ours & theirs).sum() / (ours | theirs).sum() > overlap


def test_threads_are_those_that_were_asked_for(model_path):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    component = read_bundle(model_path).components[MEMORY_ENCODER]
    lower_for_openvino(component)
    settings = engine_settings(threads=2)
    requests = Requests(component.SerializeToString(), MEMORY_ENCODER, settings)
    compiled = requests.request({}).get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert "f32" in str(compiled.get_property("INFERENCE_PRECISION_HINT")).lower() or (
        "float" in str(compiled.get_property("INFERENCE_PRECISION_HINT")).lower()
    )


def test_closed_before_and_after(model_path):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    backend = OpenVinoBackend(model_path, threads=1)
    assert backend.spec.image_size == 64
    with pytest.raises(EngineError, match="the backend is closed: enter it"):
        backend.run(IMAGE_ENCODER, {})
    with backend:
        pass
    with pytest.raises(EngineError, match="closed"):
        backend.run(IMAGE_ENCODER, {})


def test_wrong_inputs_are_one_sentence(opened):
    for wrong in ({"image": np.zeros((1, 3, 32, 32), np.float32)}, {"picture": np.zeros(3)}):
        with pytest.raises(EngineError, match="OpenVINO failed in image_encoder: ") as caught:
            opened.run(IMAGE_ENCODER, wrong)
        assert "\n" not in str(caught.value)


def test_a_model_that_the_engine_refuses(model_path):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    component = read_bundle(model_path).components[MEMORY_ENCODER]
    component.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match="cannot load memory_encoder: ") as caught:
        Requests(component.SerializeToString(), MEMORY_ENCODER, engine_settings())
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


def test_openvino_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"'openvino'.*'qsam2-deploy\[openvino\]'"):
        open_backend(tmp_path / "m.onnx", "openvino")


def test_ctrl_c_after_models_are_closed(model_path):
    """Several cores of OpenVINO would leave a stack for signal handlers that is gone."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    script = f"""
import gc, signal
from qsam2_deploy.engines.open import open_backend
for _ in range(2):
    with open_backend({str(model_path)!r}, "openvino", threads=1):
        pass
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("still here")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr
