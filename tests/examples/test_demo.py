"""The shipped clip, the scores and the errors of the demo, all of it with a tiny model."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.evaluation import boundary_accuracy, region_similarity
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.media.writing.video_writer import VideoWriter
from tests.support.drawn_clip import drawn_clip

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FRAMES = 4


@dataclass(frozen=True)
class Tiny:
    """A tiny checkpoint with its configuration."""

    checkpoint: Path
    config: Path

    @property
    def flags(self) -> list[str]:
        return ["--checkpoint", str(self.checkpoint), "--config", str(self.config)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch = pytest.importorskip("torch", reason="calibrating and exporting need torch")
    pytest.importorskip("sam2", reason="calibrating and exporting need sam2")
    yaml = pytest.importorskip("yaml", reason="reading a configuration needs pyyaml")
    from tests.support.small_config import small_config
    from tests.support.weights import write_checkpoint

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(small_config(96)))
    return Tiny(write_checkpoint(folder / "tiny.pt", small_config(96)), config)


@pytest.fixture
def demo(load, monkeypatch):
    """Give the demo, with its commands in this process, where torch is loaded but once."""
    demo = load("demo")

    def run_command(name: str, words: Sequence[str], *, torch: bool) -> int:
        return int(importlib.import_module(f"qsam2_deploy.cli.{name}").main(words))

    monkeypatch.setattr(demo, "run_command", run_command)
    return demo


@pytest.fixture
def truth(load) -> np.ndarray:
    files = sorted(load("_clip").MASKS.glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files]) == 1


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "mine.mp4"
    with VideoWriter(path, height=80, width=120, fps=12) as writer:
        for frame in drawn_clip(FRAMES, 80, 120):
            writer.write(frame)
    return path


def test_shipped_clip_has_a_mask_for_each_frame_and_is_small(load, truth):
    clip = load("_clip")
    with open_frames(clip.VIDEO) as frames:
        shapes = [frame.shape for frame in frames]
    assert shapes == [(360, 640, 3)] * len(truth)
    assert 60 <= len(truth) <= 90
    size = sum(f.stat().st_size for f in [clip.VIDEO, *clip.MASKS.iterdir()])
    assert size < 1e6


def test_half_of_the_object_of_the_shipped_clip_is_hidden_for_a_while(truth):
    areas = truth.sum(axis=(1, 2))
    seen = areas / areas.max()
    least = int(seen.argmin())
    assert 0.3 < seen[least] < 0.6
    assert 20 < least < 60
    assert seen[[0, -1]].min() > 0.75


def test_click_of_the_shipped_clip_is_on_the_object(load, truth):
    x, y = map(int, load("_clip").CLICK.split(":")[1].split(","))
    assert truth[0, y - 3 : y + 4, x - 3 : x + 4].all()


def test_masks_of_the_shipped_clip_are_where_the_orange_fish_is(load, truth):
    with open_frames(load("_clip").VIDEO) as frames:
        decoded = np.stack(list(islice(frames, 12))).astype(int)
    masks = truth[:12]
    orange = decoded[..., 0] - decoded[..., 2]
    assert orange[masks].mean() > 60
    behind = np.zeros_like(masks)  # the water that the fish has just left
    behind[:, :, :-8] = masks[:, :, 8:] & ~masks[:, :, :-8]
    assert orange[behind].mean() < 0


def test_script_draws_the_fish_where_its_mask_is(load):
    pytest.importorskip("cv2", reason="drawing the clip needs OpenCV")
    frames, masks = load("make_demo_clip").draw(frames=2, supersampling=1)
    assert frames.shape == (2, 360, 640, 3)
    assert masks.sum(axis=(1, 2)).min() > 5000
    red_over_blue = frames[..., 0].astype(int) - frames[..., 2]
    assert red_over_blue[masks].mean() > 60


@pytest.mark.slow
def test_script_draws_the_shipped_masks(load, truth):
    pytest.importorskip("cv2", reason="drawing the clip needs OpenCV")
    _, masks = load("make_demo_clip").draw()
    assert (masks != truth).mean() < 1e-4


def test_overlap_of_known_masks(load):
    first, second = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    first[0, :2], second[0, :1] = True, True
    first[1, 0], second[1, 1] = True, True
    assert load("_agreement").iou_per_frame(first, second) == [0.5, 0.0, 1.0]


def test_score_leaves_out_the_first_frame_and_wants_nothing_where_nothing_is(load):
    truth = np.zeros((3, 40, 40), bool)
    truth[:2, 10:20, 10:20] = True
    masks = truth.copy()
    masks[0] = False  # the prompted frame: does not count
    perfect = load("_agreement").score(masks, truth)
    assert (perfect.j, perfect.f, perfect.j_and_f) == (100.0, 100.0, 100.0)
    masks[2, 5, 5] = True  # the object is hidden, so this is all wrong
    assert load("_agreement").score(masks, truth).j == 50.0


def test_masks_are_read_in_the_order_of_frames(load, tmp_path):
    for index in (2, 0, 1):
        Image.fromarray(np.full((2, 3), index, np.uint8)).save(tmp_path / f"{index:05d}.png")
    masks = load("_agreement").read_masks(tmp_path)
    assert masks.shape == (3, 2, 3)
    assert masks.all(axis=(1, 2)).tolist() == [False, True, True]
    assert len(load("_agreement").read_masks(tmp_path, 2)) == 2


def test_rate_leaves_out_the_first_frames(load, tmp_path):
    seconds = [9.0] * 7 + [0.1, 0.3, 0.2]
    text = json.dumps({"frames": [{"seconds": s} for s in seconds]})
    (tmp_path / "r.json").write_text(text)
    assert load("_agreement").frames_per_second(tmp_path / "r.json") == pytest.approx(5.0)


def test_random_checkpoint_loads_without_a_configuration_and_is_reproducible(load, tmp_path):
    torch = pytest.importorskip("torch", reason="making a model needs torch")
    pytest.importorskip("sam2", reason="making a model needs sam2")
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    for name in ("a.pt", "b.pt"):
        load("_random_model").write_random_checkpoint(tmp_path / name)
    a, b = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("a.pt", "b.pt"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].item() == 4.0
    assert all(torch.isfinite(tensor).all() for tensor in a.values())


def _row(output: str, title: str) -> list[float]:
    """The numbers of the table's only row that begins with ``title``."""
    (line,) = [line for line in output.splitlines() if line.startswith(title)]
    return [float(word) for word in line.removeprefix(title).split() if word != "MB"]


def _check_files(out: Path) -> None:
    for kind in ("float", "quantized"):
        assert json.loads((out / kind / "results.json").read_text())["complete"]
        assert len(list((out / kind / "masks").glob("*.png"))) == FRAMES
        for name in ("overlay.mp4", "contact_sheet.png"):
            assert (out / kind / name).stat().st_size > 1000


def test_demo_scores_both_models_against_the_shipped_masks(demo, tiny, truth, tmp_path, capsys):
    out = tmp_path / "out"
    assert demo.main([*tiny.flags, "--frames", str(FRAMES), "--output", str(out)]) == 0
    output = capsys.readouterr().out
    _check_files(out)
    for place, kind in enumerate(("float", "quantized")):
        files = sorted((out / kind / "masks").glob("*.png"))
        masks = [np.asarray(Image.open(file)) == 3 for file in files]
        pairs = list(zip(masks[1:], truth[1:FRAMES], strict=True))
        j = 100 * np.mean([region_similarity(*pair) for pair in pairs])
        f = 100 * np.mean([boundary_accuracy(*pair) for pair in pairs])
        assert j > 0  # random weights, but not an empty mask
        assert _row(output, "  J, overlap of the masks")[place] == pytest.approx(j, abs=0.051)
        assert _row(output, "  F, match of their outlines")[place] == pytest.approx(f, abs=0.051)
        assert _row(output, "J&F, percent")[place] == pytest.approx((j + f) / 2, abs=0.051)
        size = (out / f"{kind}.onnx").stat().st_size / 1e6
        assert _row(output, "size of model.onnx")[place] == pytest.approx(size, abs=0.051)
        assert _row(output, "frames per second")[place] > 0
    assert "w8a8" in output
    assert f"on the {FRAMES - 1} frames after the one with the click" in output
    assert "NOTE: there is no trained checkpoint" not in output


@pytest.mark.slow
def test_demo_on_a_video_of_the_user_has_no_scores(demo, tiny, video, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--video", str(video), "--click", "24,40", "--output", str(out)]
    assert demo.main([*tiny.flags, *flags]) == 0
    output = capsys.readouterr().out
    _check_files(out)
    assert "J&F" not in output
    assert "the true ones of this video are not known" in output
    assert len(_row(output, "frames per second")) == 2


def test_box_goes_to_the_command_and_a_failing_command_ends_the_demo(
    demo, video, tmp_path, monkeypatch
):
    calls = []

    def run_command(name: str, words: Sequence[str], *, torch: bool) -> int:
        calls.append((name, words, torch))
        return 7 if name == "segment" else 0

    monkeypatch.setattr(demo, "run_command", run_command)
    flags = ["--video", str(video), "--box", "12,25,40,55", "--output", str(tmp_path / "out")]
    assert demo.main([*flags, "--checkpoint", "model.pt"]) == 7
    assert [name for name, _, _ in calls] == ["calibrate", "export", "export", "segment"]
    assert [torch for _, _, torch in calls] == [True, True, True, False]
    words = calls[-1][1]
    assert words[0] == str(video)
    assert words[words.index("--box") + 1] == "12,25,40,55"
    assert "--click" not in words


def test_a_checkpoint_that_was_trained_at_these_widths_is_not_calibrated(
    demo, tmp_path, monkeypatch, capsys
):
    calls = []

    def run_command(name: str, words: Sequence[str], *, torch: bool) -> int:
        calls.append((name, words))
        return 7 if name == "segment" else 0

    monkeypatch.setattr(demo, "run_command", run_command)
    monkeypatch.setattr(demo, "TRAINED", tmp_path)
    trained, out = tmp_path / "demo-w2a2.pt", tmp_path / "out"
    trained.touch()
    for bits, checkpoint, wanted in (
        ("w2a2", None, ["export", "export", "segment"]),
        ("w4a4", None, ["calibrate", "export", "export", "segment"]),
        ("w2a2", "mine.pt", ["calibrate", "export", "export", "segment"]),
    ):
        calls.clear()
        own = ["--checkpoint", checkpoint] if checkpoint else []
        assert demo.main(["--bits", bits, "--output", str(out), *own]) == 7
        assert [name for name, _ in calls] == wanted
        quantized = [words for name, words in calls if name == "export"][1][0]
        assert quantized == str(trained if len(wanted) == 3 else out / "quantized.pt")
    assert "the model was trained at w2a2 already" in capsys.readouterr().out


@pytest.mark.slow
def test_without_a_trained_checkpoint_the_demo_says_so_and_has_no_scores(
    demo, load, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(demo, "SHIPPED", tmp_path / "absent.pt")
    # The model of random weights is larger than this test needs; the checkpoint names its own
    # configuration, as the random one does.
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    def write(path: Path) -> None:
        loaded = load_checkpoint(tiny.checkpoint, config=tiny.config)
        save_checkpoint(path, loaded.model.state_dict(), config=loaded.config)

    monkeypatch.setattr(load("_random_model"), "write_random_checkpoint", write)
    out = tmp_path / "out"
    assert demo.main(["--frames", str(FRAMES), "--output", str(out)]) == 0
    output = capsys.readouterr().out
    assert output.count("NOTE: there is no trained checkpoint here") == 2
    assert "J&F" not in output
    _check_files(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "v.mp4"], "--video needs --click"),
        (["--config", "c.yaml"], "--config needs --checkpoint"),
        (["--frames", "1"], "--frames must be at least 2"),
        (["--click", "1,1", "--box", "1,1,2,2"], "--click and --box both say"),
        (["--video", "absent.mp4", "--click", "1,1"], "there is no file absent.mp4"),
        (["--click", "a,b"], "--click a,b is not a click"),
        (["--click", "640,10"], "the click (640, 10) of object 1 is outside of the frame"),
        (["--box", "9,9,4,4"], "the box (9, 9, 4, 4) of object 1 is empty"),
    ],
)
def test_wrong_arguments_are_one_sentence(load, arguments, message, capsys, tmp_path):
    out = tmp_path / "out"
    assert load("demo").main([*arguments, "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"demo: error: {message}")
    assert error.count("\n") == 1
    assert not out.exists()


def test_video_that_cannot_be_read_is_one_sentence(load, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 99)
    assert load("demo").main(["--video", str(broken), "--click", "1,1"]) == 2
    error = capsys.readouterr().err
    assert str(broken) in error
    assert error.count("\n") == 1


def test_folder_that_cannot_be_made_is_one_sentence(load, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert load("demo").main(["--output", str(tmp_path / "file" / "out")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_failing_stage_ends_the_demo(demo, tmp_path, capsys):
    out = tmp_path / "out"
    missing = tmp_path / "missing.pt"
    assert demo.main(["--checkpoint", str(missing), "--output", str(out)]) == 2
    output = capsys.readouterr()
    assert "there is no checkpoint" in output.err
    assert "[3/5]" not in output.out
    assert "Done in" not in output.out


def test_makefile_passes_its_variables_on():
    variables = ["VIDEO=my film.mp4", "CLICK=3,4", "BOX=1,2,3,4", "MODEL=m.pt", "BITS=w2a2"]
    line = ["make", "--no-print-directory", "-n", "-o", ".venv/.installed", "demo", *variables]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    command = " ".join(run.stdout.replace("\\\n", " ").split())
    wanted = '--video "my film.mp4" --click "3,4" --box "1,2,3,4" --checkpoint "m.pt" --bits "w2a2"'
    assert command.endswith(wanted)


@pytest.mark.slow
def test_the_whole_demo(load, truth, tmp_path):
    """Every stage in a process of its own, the last one where torch cannot be imported."""
    out = tmp_path / "out"
    # An installed package needs no path; the one that is tested here comes first.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "examples/demo.py", "--output", str(out)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "NOTE: there is no trained checkpoint here" not in run.stdout
    float_score, quantized_score = _row(run.stdout, "J&F, percent")
    assert float_score > 89  # 90.3 where it was written
    assert abs(quantized_score - float_score) <= 1
    assert (out / "quantized.onnx").stat().st_size < (out / "float.onnx").stat().st_size
    agreement = load("_agreement")
    for kind in ("float", "quantized"):
        assert json.loads((out / kind / "results.json").read_text())["complete"]
        ious = agreement.iou_per_frame(agreement.read_masks(out / kind / "masks"), truth)
        assert min(ious) > 0.3  # at frame 40 half of the fish is behind the rock
        assert min(ious[60:]) > 0.75
