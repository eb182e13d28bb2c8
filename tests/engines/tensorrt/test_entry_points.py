"""Whatever takes a model.onnx takes a model.engine."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.cli.segment import main as segment
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import engine_of
from qsam2_deploy.engines.tensorrt.backend import TensorRtBackend
from qsam2_deploy.errors import InputError, MissingDependencyError, ModelFileError
from qsam2_deploy.predictors.build_sam import build_sam2_video_predictor
from qsam2_deploy.runtime import SAM2ImagePredictor, SAM2VideoPredictor, VideoSegmenter
from qsam2_deploy.tracking.results import Prompt

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(np.roll(PIXELS, index, axis=1)).save(folder / f"{index}.png")
    return folder


def test_the_suffix_or_the_first_bytes_decide(installed, engine, model_path):
    other_name = engine.rename(engine.with_name("model.bin"))
    for backend in ("auto", "tensorrt"):
        opened = open_backend(other_name, backend)
        assert isinstance(opened, TensorRtBackend)
        assert engine_of(opened).startswith("tensorrt, ")
    assert engine_of(open_backend(model_path, "ort")) == "ort, exact"
    with pytest.raises(ModelFileError, match=r"cannot read the engine .*none\.engine"):
        open_backend("none.engine")
    installed.check()


@pytest.mark.parametrize("backend", ["ort", "openvino", "tensorrt-rtx"])
def test_an_engine_runs_with_what_built_it(installed, engine, backend):
    with pytest.raises(InputError, match=f"runs with the backend tensorrt, but got {backend}"):
        open_backend(engine, backend)
    installed.check()


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_model_onnx_is_no_engine(model_path, backend):
    with pytest.raises(InputError, match=r"runs a model\.engine, but got .*qsam2-build-engine"):
        open_backend(model_path, backend)


def test_segmenter(installed, engine, model_path):
    logits = []
    for model, backend in ((model_path, "ort"), (engine, "auto")):
        with VideoSegmenter(model, backend) as segmenter:
            result = segmenter.track(PIXELS, [Prompt(1, [(30, 20)], [1])])
            logits.append(result[1].logits)
    np.testing.assert_array_equal(*logits)
    installed.check()


def test_video_predictor(installed, engine, model_path, frames):
    logits = []
    for model, backend in ((model_path, "ort"), (engine, "auto")):
        with build_sam2_video_predictor(None, model, backend=backend) as predictor:
            assert isinstance(predictor, SAM2VideoPredictor)
            state = predictor.init_state(str(frames))
            predictor.add_new_points_or_box(state, 0, 1, box=[5, 5, 40, 40])
            logits.append(np.stack([m for _, _, m in predictor.propagate_in_video(state)]))
    np.testing.assert_array_equal(*logits)
    installed.check()


def test_image_predictor(installed, engine, model_path):
    found: list[Any] = []
    boxes = np.array(
        [[5, 5, 30, 30], [10, 8, 50, 40], [1, 2, 30, 40], [9, 9, 40, 40], [3, 3, 9, 9]]
    )
    for model, backend in ((model_path, "ort"), (engine, "auto")):
        with SAM2ImagePredictor(model, backend) as predictor:
            predictor.set_image(PIXELS)
            found.append(predictor.predict(box=boxes, multimask_output=False, return_logits=True))
            embedding = predictor.get_image_embedding()
            assert isinstance(embedding, np.ndarray)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    installed.check()


def test_segment_command(installed, engine, frames, tmp_path):
    output = tmp_path / "out.json"
    line = f"{frames} --model {engine} --click 30,20 --json {output}"
    assert segment(line.split()) == 0
    assert len(json.loads(output.read_text())["frames"]) == 4
    installed.check()


def test_without_cuda_python(gpu, engine, monkeypatch):
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="pip install 'cuda-python"):
        TensorRtBackend(engine, library=gpu.library).__enter__()


def test_the_older_layout_of_cuda_python_is_found(gpu, monkeypatch):
    from types import ModuleType

    from qsam2_deploy.engines.tensorrt.cuda import Cuda

    package: Any = ModuleType("cuda")
    package.cudart = gpu.runtime
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert Cuda().runtime is gpu.runtime
