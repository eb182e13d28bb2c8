"""The other ways to run a model that benchmarks compare with compute what ours does."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.speed._plain_backends import PlainOpenVino, PlainOrt
from benchmarks.speed._torch_backend import TorchBackend, export_plain
from benchmarks.speed.cpu_frame import Recorder
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import Backend
from qsam2_deploy.errors import EngineError
from qsam2_deploy.spec import COMPONENTS
from qsam2_deploy.timing.steady import SteadyTracker
from tests.support.weights import small_config, write_checkpoint


def outputs(backend: Backend, folder: Path) -> dict[str, Any]:
    """All outputs for the inputs of one tracked frame."""
    found = {}
    for component in COMPONENTS:
        inputs = dict(np.load(folder / f"{component}.npz"))
        made = backend.run(component, inputs)
        found |= {f"{component}/{name}": value for name, value in made.items()}
    return found


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """As a share of the range of each output."""
    assert found.keys() == expected.keys()
    shares = []
    for name, value in expected.items():
        scale = np.abs(value).max()
        assert scale > 0
        shares.append(np.abs(found[name] - value).max() / scale)
    return float(max(shares))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint, our export, and the plain one."""
    from qsam2_deploy.export import onnx_from_checkpoint

    folder = tmp_path_factory.mktemp("peers")
    path = write_checkpoint(folder / "small.pt", small_config(64, d_model=32, memory_dim=8))
    config = path.with_suffix(".yaml")
    onnx_from_checkpoint(path, folder / "small.onnx", config=config, show_progress=False)
    with open_backend(folder / "small.onnx", "ort", 1) as backend:
        recorder = Recorder(backend)
        SteadyTracker(recorder, frame_size=(48, 64)).step()
        for component, inputs in recorder.inputs.items():
            np.savez(folder / f"{component}.npz", **inputs)
    export_plain(path, config, recorder.inputs, folder / "plain")
    return folder


def peers(folder: Path) -> dict[str, Any]:
    checkpoint = (folder / "small.pt", folder / "small.yaml", 1)
    return {
        "torch": partial(TorchBackend, *checkpoint, "float32"),
        "onnxruntime": partial(PlainOrt, folder / "plain", 1),
        "openvino": partial(PlainOpenVino, folder / "plain", 1),
    }


@pytest.fixture(scope="module")
def ours(folder) -> dict[str, Any]:
    with open_backend(folder / "small.onnx", "ort", 1) as backend:
        return outputs(backend, folder)


@pytest.mark.parametrize(
    "name", ["torch", "onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_the_outputs_are_ours(name, folder, ours):
    pytest.importorskip(name)
    with peers(folder)[name]() as backend:
        assert largest_difference(outputs(backend, folder), ours) < 1e-4


def test_bfloat16_is_another_precision(folder, ours):
    with TorchBackend(folder / "small.pt", folder / "small.yaml", 1, "bfloat16") as backend:
        assert 1e-3 < largest_difference(outputs(backend, folder), ours) < 0.5


def test_bfloat16_is_refused_where_there_is_none(folder, monkeypatch):
    monkeypatch.setattr("benchmarks.speed._plain_backends._capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(EngineError, match="no bfloat16"):
        PlainOpenVino(folder / "plain", 1, "bf16")
