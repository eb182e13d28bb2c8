"""The generated clip, the comparison and the random model of the demo; and, slowly, all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Give a function that imports a file of ``examples/``, as running one there does."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def load(name: str) -> ModuleType:
        return __import__(name)

    return load


@pytest.fixture
def clip(load):
    return load("_clip").make_clip(frames=24)


def test_clip_is_the_same_every_time_and_another_with_another_seed(load, clip):
    again, other = (load("_clip").make_clip(seed, frames=24) for seed in (0, 7))
    assert np.array_equal(clip.frames, again.frames)
    assert not np.array_equal(clip.frames, other.frames)


def test_object_is_hidden_completely_and_comes_back(clip):
    assert clip.frames.shape == (24, 240, 320, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.masks.shape == (24, 240, 320)
    areas = clip.masks.sum(axis=(1, 2))
    hidden = np.flatnonzero(areas == 0)
    assert hidden.size >= 2
    assert 0 < hidden[0] < hidden[-1] < 23
    assert areas[0] > 2000
    assert areas[-1] > 0.9 * areas[0]


def test_masks_are_where_the_object_is_seen(clip):
    x, y = clip.click
    assert clip.masks[0, y, x]
    red, green = clip.frames[..., 0].astype(int), clip.frames[..., 1].astype(int)
    orange = red - green
    assert orange[clip.masks].mean() > orange[~clip.masks].mean() + 60


def test_clip_survives_the_video_file(load, clip, tmp_path):
    pytest.importorskip("av", reason="writing a video needs PyAV")
    from qsam2_deploy.runtime.media.sources import open_frames

    load("_clip").write_clip(clip, tmp_path / "clip.mp4")
    with open_frames(tmp_path / "clip.mp4") as frames:
        decoded = np.stack(list(frames))
    assert decoded.shape == clip.frames.shape
    assert np.abs(decoded.astype(int) - clip.frames).mean() < 6


def test_overlap_of_known_masks(load):
    first, second = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    first[0, :2], second[0, :1] = True, True
    first[1, 0], second[1, 1] = True, True
    assert load("_agreement").iou_per_frame(first, second).tolist() == [0.5, 0.0, 1.0]


def test_masks_are_read_in_the_order_of_frames(load, tmp_path):
    for index in (2, 0, 1):
        labels = np.full((2, 3), index, np.uint8)
        Image.fromarray(labels).save(tmp_path / f"{index:05d}.png")
    masks = load("_agreement").read_masks(tmp_path, object_id=1)
    assert masks.shape == (3, 2, 3)
    assert masks.all(axis=(1, 2)).tolist() == [False, True, False]


def test_time_of_a_frame_leaves_out_the_first_ones(load, tmp_path):
    seconds = [9.0] * 7 + [0.1, 0.3, 0.2]
    text = json.dumps({"frames": [{"seconds": s} for s in seconds]})
    (tmp_path / "r.json").write_text(text)
    assert load("_agreement").milliseconds_per_frame(tmp_path / "r.json") == pytest.approx(200)


def test_random_checkpoint_loads_without_a_configuration_and_is_reproducible(load, tmp_path):
    torch = pytest.importorskip("torch", reason="making a model needs torch")
    pytest.importorskip("sam2", reason="making a model needs sam2")
    from qsam2_deploy.quant.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    for name in ("a.pt", "b.pt"):
        load("_random_model").write_random_checkpoint(tmp_path / name)
    a, b = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("a.pt", "b.pt"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].item() == 4.0
    assert all(torch.isfinite(tensor).all() for tensor in a.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "v.mp4"], "--video needs --click"),
        (["--config", "c.yaml"], "--config needs --checkpoint"),
        (["--frames", "0"], "--frames must be at least 1"),
    ],
)
def test_wrong_arguments_are_one_sentence(load, arguments, message, capsys):
    assert load("demo").main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"demo: error: {message}")
    assert error.count("\n") == 1


def test_folder_that_cannot_be_made_is_one_sentence(load, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert load("demo").main(["--output", str(tmp_path / "file" / "out")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_failing_stage_ends_the_demo(load, tmp_path, capfd):
    out = tmp_path / "out"
    missing = tmp_path / "missing.pt"
    assert load("demo").main(["--checkpoint", str(missing), "--output", str(out)]) == 2
    output = capfd.readouterr()
    assert "there is no checkpoint" in output.err
    assert "[4/6]" not in output.out
    assert "Done in" not in output.out


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "examples/demo.py", "--frames", "10", "--output", str(out)]
    # An installed package needs no path; the one that is tested here comes first.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for kind in ("float", "quantized"):
        results = json.loads((out / kind / "results.json").read_text())
        assert results["complete"]
        assert len(results["frames"]) == len(list((out / kind / "masks").glob("*.png"))) == 10
        assert all(frame["objects"][0]["area"] > 0 for frame in results["frames"])
        for name in ("overlay.mp4", "contact_sheet.png"):
            assert (out / kind / name).stat().st_size > 1000
    assert (out / "quantized.onnx").stat().st_size < (out / "float.onnx").stat().st_size
    mean = float(run.stdout.split("\n  mean ")[1].split(",")[0])
    assert 0.8 < mean <= 1.0
    shipped = (ROOT / "assets" / "demo.pt").exists()
    assert run.stdout.count("NOTE: there is no trained checkpoint here") == (0 if shipped else 2)
