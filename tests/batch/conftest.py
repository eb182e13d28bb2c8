"""A few short videos with their manifest, and a model that computes nothing of use."""

import json

import pytest

from qsam2_deploy.batch.options import BatchOptions
from tests.support.media_samples import write_video
from tests.support.tiny_model import tiny_bytes

CLICK = [{"points": [[20, 20]]}]


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_bytes())
    return path


@pytest.fixture
def options(model, tmp_path):
    outputs = {"json": "results.json", "masks": "masks"}
    return BatchOptions(str(model), str(tmp_path / "out"), outputs, backend="ort")


@pytest.fixture
def videos(tmp_path):
    """Write a.mp4, b.mp4 and c.mp4 of 3 frames, and the manifest."""
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", 3)
    return write_manifest(tmp_path, *({"video": f"{name}.mp4"} for name in "abc"))


def write_manifest(folder, *entries):
    path = folder / "videos.jsonl"
    given = ({"prompts": CLICK, **entry} for entry in entries)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in given))
    return path
