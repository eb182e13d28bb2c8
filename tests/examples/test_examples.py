"""The examples run; and the script for the official predictor runs on both, unchanged."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.media.writing.video_writer import VideoWriter
from tests.support.drawn_clip import drawn_clip

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OURS = "from qsam2_deploy.runtime import build_sam2_video_predictor\n"
OFFICIAL = "from sam2.build_sam import build_sam2_video_predictor\n"
FRAMES, LATER = 5, 3


@dataclass(frozen=True)
class Material:
    """The trained model at a small size, with its configuration and as ``.onnx``, and a clip."""

    checkpoint: Path
    model: Path
    config: Path
    frames: Path
    video: Path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    torch = pytest.importorskip("torch", reason="exporting a model needs torch")
    pytest.importorskip("sam2", reason="exporting a model needs sam2")
    from qsam2_deploy.export import onnx_from_checkpoint
    from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint
    from tests.parity.trained import trained_model

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("examples")
    settings, state = trained_model()
    checkpoint = folder / "tiny.pt"
    save_checkpoint(checkpoint, state, config=settings)
    config, model = folder / "tiny.yaml", folder / "tiny.onnx"
    config.write_text(yaml.safe_dump(settings))
    onnx_from_checkpoint(checkpoint, model, show_progress=False)
    # The upstream package reads its configurations with Hydra, which wants this line.
    config.write_text("# @package _global_\n" + config.read_text())
    frames, video = folder / "frames", folder / "clip.mp4"
    _write_clip(frames, video)
    return Material(checkpoint, model, config, frames, video)


def _write_clip(folder: Path, video: Path) -> None:
    """Write a clip as JPEG files and as a video, large enough for the flow's clicks."""
    folder.mkdir()
    with VideoWriter(video, height=416, width=512, fps=12) as writer:
        for index, frame in enumerate(drawn_clip(FRAMES, 416, 512)):
            writer.write(frame)
            Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=95)


def _run_flow(source: str, path: Path, arguments: list[str]) -> None:
    """Run the source of the flow, written to ``path``, with these arguments."""
    path.write_text(source)
    runpy.run_path(str(path))["main"](arguments)


def _labels(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.png"))
    assert [file.stem for file in files] == [f"{index:05d}" for index in range(FRAMES)]
    return np.stack([np.asarray(Image.open(file)) for file in files])


@pytest.mark.filterwarnings("ignore:cannot import name '_C'")  # of upstream, without CUDA
def test_official_flow_gives_equal_masks_on_both_predictors(material, tmp_path):
    source = (EXAMPLES / "official_flow.py").read_text()
    assert source.count("\n" + OURS) == 1
    # Two slashes: Hydra takes what follows the first for a path inside the sam2 package.
    arguments = [f"/{material.config}", str(material.checkpoint), str(material.frames)]
    later = ["--later", str(LATER)]
    _run_flow(source, tmp_path / "ours.py", [*arguments, str(tmp_path / "ours"), *later])
    official = source.replace("\n" + OURS, "\n" + OFFICIAL)
    assert "qsam2" not in official
    _run_flow(official, tmp_path / "theirs.py", [*arguments, str(tmp_path / "theirs"), *later])
    for part, objects in (("one_child", {1}), ("two_children", {2, 3})):
        ours, theirs = (_labels(tmp_path / side / part) for side in ("ours", "theirs"))
        assert set(np.unique(theirs)) == objects | {0}
        assert (ours != theirs).mean() < 1e-5


@pytest.mark.slow
def test_official_flow_depends_on_its_correction(material, tmp_path):
    """Without this, masks that ignore a correction would be equal on both predictors, too."""
    source = (EXAMPLES / "official_flow.py").read_text()
    assert source.count("[82, 410]") == 1
    moved = source.replace("[82, 410]", "[400, 60]")
    arguments = ["-", str(material.checkpoint), str(material.frames)]
    found = []
    for name, text in (("as_it_is", source), ("moved", moved)):
        out = tmp_path / name
        _run_flow(text, tmp_path / f"{name}.py", [*arguments, str(out), "--later", str(LATER)])
        found.append(_labels(out / "one_child"))
    changed = (found[0] != found[1]).mean(axis=(1, 2))
    assert (changed[:LATER] == 0).all()
    assert changed[LATER] > 1e-3  # a hundred times what may differ between the predictors
    assert (changed[LATER + 1 :] > 0).all()


def test_official_flow_runs_on_a_video_without_torch(material, tmp_path):
    result = _without_torch(
        "official_flow.py", "-", material.model, material.video, tmp_path, "--later", LATER
    )
    assert result.returncode == 0, result.stderr
    assert len(np.unique(_labels(tmp_path / "two_children"))) == 3


def test_camera_prints_one_line_per_frame_without_torch(material):
    result = _without_torch(
        "camera.py", material.model, material.video, "--click", "100,208", "--frames", 3
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(":")[0].split() for line in lines] == [["frame", str(i)] for i in range(3)]
    assert all("pixels" in line for line in lines)


def test_camera_says_in_one_sentence_what_is_wrong(material):
    result = _without_torch("camera.py", "absent.onnx", material.video, "--click", "1,1")
    assert result.returncode == 1
    assert result.stderr.startswith("camera.py: there is no model absent.onnx")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_jetson_camera_draws_masks_into_a_video_without_torch(material, tmp_path):
    out = tmp_path / "masks.mp4"
    result = _without_torch(
        "jetson_camera.py", material.model, material.video, "--box", "60,120,200,300", "--out", out
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"{FRAMES} frames; ")
    with open_frames(out) as drawn, open_frames(material.video) as plain:
        pairs = list(zip(drawn, plain, strict=True))
    assert len(pairs) == FRAMES
    # The random model marks something; compression alone changes no pixel by so much.
    assert all((np.abs(one.astype(int) - other) > 40).any() for one, other in pairs)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("0", "--click", "1,1"), "there is no camera 0"),
        (("csi", "--click", "1,1"), "CSI camera 0 needs OpenCV"),
        (("VIDEO",), "say what to track with --click or --box"),
        (("VIDEO", "--show"), "no window can be opened"),
        (("VIDEO", "--click", "9999,1"), "the click (9999, 1) of object 1 is outside"),
    ],
)
def test_jetson_camera_says_in_one_sentence_what_is_wrong(
    material, arguments, sentence, monkeypatch
):
    if arguments[0] == "0" and Path("/dev/video0").exists():
        pytest.skip("there is a camera")
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    given = [material.video if word == "VIDEO" else word for word in arguments]
    result = _without_torch("jetson_camera.py", material.model, *given)
    assert result.returncode == 2
    assert result.stderr.startswith(f"jetson_camera.py: error: {sentence}")
    assert result.stderr.count("\n") == 1


def _without_torch(example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example in a process that cannot import torch."""
    code = (
        "import os, runpy, sys; sys.modules['torch'] = sys.modules['sam2'] = None; "
        "sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0])); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(EXAMPLES / example), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
