"""An engine is scored as a ``model.onnx`` is, and what it computes has the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.cli.eval import main as evaluate
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from tests.data.datasets import moving, square, write_davis
from tests.support.lowered_gpu import LoweredGpu

LABELS = [np.maximum(labels, square(44, 20, value=2)) for labels in moving(4)]


@pytest.fixture
def gpu() -> LoweredGpu:
    return LoweredGpu()


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "davis", {"clip": LABELS})


def scored(model: Path, davis: Path, prompt: str, out: Path, *more: str) -> dict[str, Any]:
    """What ``qsam2-eval`` writes about a model."""
    out.mkdir()
    line = [str(model), "--davis", str(davis), "--prompt", prompt, "--quiet", *more]
    line += ["--json", str(out / "scores.json"), "--save-masks", str(out / "masks")]
    assert evaluate(line) == 0
    return json.loads((out / "scores.json").read_text())


def masks(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "masks").rglob("*.png"))
    return {str(file.relative_to(folder)): np.asarray(Image.open(file)).tobytes() for file in files}


def without_times(sequences: dict[str, Any]) -> dict[str, Any]:
    return {name: {**found, "seconds": None} for name, found in sequences.items()}


@pytest.mark.parametrize(
    ("precision", "prompt"),
    [
        ("int8", "mask"),
        pytest.param("fp16", "click", marks=pytest.mark.slow),
        pytest.param("int4", "box", marks=pytest.mark.slow),
    ],
)
def test_engine_has_the_scores_of_its_lowered_graphs(
    precision: str,
    prompt: str,
    gpu: LoweredGpu,
    installed: LoweredGpu,
    quantized_path: Path,
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = gpu.build(quantized_path, tmp_path / "m.engine", precision=precision)
    on_gpu = scored(engine, davis, prompt, tmp_path / "gpu")
    assert on_gpu["settings"]["model"] == "m.engine"
    assert on_gpu["settings"]["engine"].startswith("tensorrt, ")
    installed.check()

    sessions = gpu.sessions()
    with monkeypatch.context() as patch:
        patch.setattr(OrtBackend, "_open", lambda _, lowered, name: sessions[name])
        on_cpu = scored(quantized_path, davis, prompt, tmp_path / "cpu", "--backend", "ort",
                        "--threads", "1")  # fmt: skip
    assert on_cpu["settings"]["engine"] == "ort, exact"
    assert without_times(on_gpu["sequences"]) == without_times(on_cpu["sequences"])
    assert on_gpu["objects"] == 2
    assert 0 < on_gpu["J&F"] == on_cpu["J&F"] < 100
    drawn = masks(tmp_path / "gpu")
    assert drawn == masks(tmp_path / "cpu")
    assert len(drawn) == len(LABELS)
