"""OpenVINO computes what ONNX Runtime computes, from the same file."""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError, MissingDependencyError
from qsam2_deploy.runtime.backend import open_backend
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.lowering import lower_for_openvino
from qsam2_deploy.runtime.openvino import OpenVinoBackend
from qsam2_deploy.runtime.openvino_requests import Requests, engine_settings
from qsam2_deploy.runtime.segmenter import Prompt, VideoSegmenter
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER, MEMORY_ATTENTION, MEMORY_ENCODER
from tests.runtime.test_bundle import random_inputs

TOLERANCE = 2e-4
"""Largest difference of a float model, as a share of the range of ONNX Runtime's numbers."""


@pytest.fixture(scope="module")
def opened(model_path: Path) -> Any:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    with OpenVinoBackend(model_path, threads=1) as backend:
        yield backend


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_numbers_are_those_of_onnx_runtime(
    opened: OpenVinoBackend, model_path: Path, component: str
) -> None:
    feeds = random_inputs(opened.spec, component)
    found = opened.run(component, feeds)
    with open_backend(model_path, "ort", threads=1) as other:
        expected = other.run(component, feeds)
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert (found[name].shape, found[name].dtype) == (wanted.shape, wanted.dtype)
        assert np.abs(found[name] - wanted).max() <= TOLERANCE * max(np.ptp(wanted), 1e-3)


@pytest.mark.parametrize(("frames", "pointers"), [(1, 1), (7, 16), (2, 5), (1, 0)])
def test_dynamic_sizes_may_change_from_call_to_call(
    opened: OpenVinoBackend, model_path: Path, frames: int, pointers: int
) -> None:
    spec, rng = opened.spec, np.random.default_rng(frames)
    h, m, c = spec.feature_size, spec.memory_dim, spec.d_model
    feeds = {
        "features": rng.standard_normal((1, c, h, h)),
        "memory": rng.standard_normal((2, frames, m, h, h)),
        "memory_tpos": np.arange(frames),
        "pointers": rng.standard_normal((2, pointers, c)),
        "pointer_tpos": np.arange(pointers) / 15,
    }
    feeds = {k: v.astype(np.int64 if k == "memory_tpos" else np.float32) for k, v in feeds.items()}
    found = opened.run(MEMORY_ATTENTION, feeds)["conditioned"]
    with open_backend(model_path, "ort", threads=1) as other:
        expected = other.run(MEMORY_ATTENTION, feeds)["conditioned"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.ptp(expected))


def test_results_stay_what_they_are(opened: OpenVinoBackend) -> None:
    """The engine reuses its memory; what it gave out must not change with the next call."""
    feeds = random_inputs(opened.spec, IMAGE_ENCODER)
    first = opened.run(IMAGE_ENCODER, feeds)["features"]
    kept = first.copy()
    second = opened.run(IMAGE_ENCODER, {"image": -feeds["image"]})["features"]
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(first, kept)


def test_inputs_need_not_be_contiguous(opened: OpenVinoBackend) -> None:
    image = random_inputs(opened.spec, IMAGE_ENCODER)["image"]
    expected = opened.run(IMAGE_ENCODER, {"image": image})["features"]
    strided = opened.run(IMAGE_ENCODER, {"image": np.asfortranarray(image)})["features"]
    np.testing.assert_array_equal(strided, expected)


@pytest.mark.parametrize(
    ("fixture", "overlap"), [("model_path", 0.99), ("integer_attention_path", 0.9)]
)
def test_masks(fixture: str, overlap: float, request: pytest.FixtureRequest) -> None:
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


def test_threads_are_those_that_were_asked_for(model_path: Path) -> None:
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


def test_closed_before_and_after(model_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    backend = OpenVinoBackend(model_path, threads=1)
    assert backend.spec.image_size == 64
    with pytest.raises(EngineError, match="the backend is closed: enter it"):
        backend.run(IMAGE_ENCODER, {})
    with backend:
        pass
    with pytest.raises(EngineError, match="closed"):
        backend.run(IMAGE_ENCODER, {})


def test_wrong_inputs_are_one_sentence(opened: OpenVinoBackend) -> None:
    for wrong in ({"image": np.zeros((1, 3, 32, 32), np.float32)}, {"picture": np.zeros(3)}):
        with pytest.raises(EngineError, match="OpenVINO failed in image_encoder: ") as caught:
            opened.run(IMAGE_ENCODER, wrong)
        assert "\n" not in str(caught.value)


def test_a_model_that_the_engine_refuses(model_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    component = read_bundle(model_path).components[MEMORY_ENCODER]
    component.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match="cannot load memory_encoder: ") as caught:
        Requests(component.SerializeToString(), MEMORY_ENCODER, engine_settings())
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


def test_openvino_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *args: Any, level: int = 0) -> Any:
        # With a level it is our own module of that name.
        if name.partition(".")[0] == "openvino" and args[3:] in ((), (0,)) and level == 0:
            raise ImportError(name)
        return original(name, *args, level=level) if level else original(name, *args)

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(MissingDependencyError, match=r"'openvino'.*'qsam2-deploy\[openvino\]'"):
        open_backend(tmp_path / "m.onnx", "openvino")


def test_ctrl_c_after_models_are_closed(model_path: Path) -> None:
    """Several cores of OpenVINO would leave a stack for signal handlers that is gone."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    script = f"""
import gc, signal
from qsam2_deploy.runtime.backend import open_backend
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
