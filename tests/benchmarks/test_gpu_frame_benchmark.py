"""The benchmark of a frame on a GPU, as far as it runs without one."""

from pathlib import Path

import pytest
import torch

from benchmarks import _models
from benchmarks.speed import gpu_frame
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.spec import COMPONENTS
from tests.support.weights import small_config, write_checkpoint

FRAMES = 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    return write_checkpoint(tmp_path_factory.mktemp("gpu_frame") / "small.pt", config)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert gpu_frame.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "this benchmark needs an NVIDIA GPU" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("contender", ["ours", "torch"])
def test_every_component_of_every_frame_is_timed(checkpoint, tmp_path, contender):
    images = tmp_path / "frames"
    size = _models.write_frames(None, images, FRAMES)
    if contender == "ours":
        model, config = tmp_path / "small.onnx", checkpoint.with_suffix(".yaml")
        onnx_from_checkpoint(checkpoint, model, config=config, show_progress=False)
        seconds = gpu_frame.runtime_seconds(model, "ort", images, size)
    else:
        seconds = gpu_frame.torch_seconds(checkpoint, images, size, "cpu", compiled=False)
    assert list(seconds) == [*COMPONENTS, gpu_frame.FRAME]
    for frame in zip(*seconds.values(), strict=True):
        *parts, whole = frame
        assert min(parts) > 0
        assert sum(parts) <= whole
    assert len(seconds[gpu_frame.FRAME]) == FRAMES - 2
    row = gpu_frame.steady_milliseconds(seconds, 2)
    assert row[gpu_frame.FRAME] > max(row[name] for name in COMPONENTS)
    lines = gpu_frame.format_rows("small", {"x": row, "y": row}).splitlines()
    assert len({len(line) for line in lines}) == 1
