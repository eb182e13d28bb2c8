"""The command qsam2-segment."""

import json
import os

import pytest
from PIL import Image

import qsam2_deploy.predictors.segment_video as library
from qsam2_deploy.cli.segment import main
from qsam2_deploy.predictors import everything
from tests.cli.refusal import assert_refused
from tests.predictors.fake_backend import FakeBackend
from tests.predictors.test_segment_video import FakeSegmenter, failing_at, signal_once
from tests.support.media_samples import decode_all, frame_image, write_video


@pytest.fixture
def fake(monkeypatch):
    FakeSegmenter.last = None
    monkeypatch.setattr(library, "_video_segmenter", FakeSegmenter)


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_video(tmp_path / "in.mp4", 12)


def run_command(line):
    return main(line.split())


@pytest.mark.usefixtures("fake", "video")
class TestRun:
    def test_orientation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(frame_image(3, 64, 48)).save(tmp_path / "in.jpg", exif=exif)
        line = "in.jpg --model model.onnx --click 20,20 --json out.json"
        for flag, size in (("", (64, 48)), (" --ignore-orientation", (48, 64))):
            assert run_command(line + flag) == 0
            data = json.loads((tmp_path / "out.json").read_text())
            assert (data["width"], data["height"]) == size

    def test_everything(self, tmp_path, capsys):
        prompts = [{"frame": 4, "object": 2, "box": [20, 10, 40, 30]}]
        (tmp_path / "p.json").write_text(json.dumps(prompts))
        status = run_command(
            "in.mp4 --model model.onnx --click 20,20 --negative-click 40,40 --prompts p.json "
            "--out out.mp4 --masks masks --json out.json --contact-sheet s.png "
            "--start 2 --max-frames 6 --backend ort --threads 1 --memory-frames 4 --cache kept "
            "--precision fast"
        )
        assert status == 0
        assert FakeSegmenter.last.arguments[1:] == ("ort", 1, 4)
        assert str(FakeSegmenter.last.cache) == "kept"
        assert FakeSegmenter.last.seen == [2, 3, 4, 5, 6, 7]
        assert FakeSegmenter.last.prompted == {1: [2], 2: [4]}
        assert len(decode_all(tmp_path / "out.mp4")) == 6
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("6 frames of 64x48 in ")
        assert "frames per second" in lines[0]
        assert lines[1:] == [
            "engine: ort, fast",
            "object 1: visible on 100% of 6 frames",
            "object 2: visible on 50% of 4 frames",
            "overlay video: out.mp4",
            "masks: masks",
            "results: out.json",
            "contact sheet: s.png",
        ]

    def test_ctrl_c(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(library, "_video_segmenter", failing_at(3, signal_once))
        assert run_command("in.mp4 --model m.onnx --click 20,20 --out out.mp4") == 130
        assert capsys.readouterr().out.startswith("interrupted after 4 frames")
        assert len(decode_all(tmp_path / "out.mp4")) == 4

    def test_quiet(self, capsys):
        assert run_command("in.mp4 --model m.onnx --click 20,20 --out out.mp4 --quiet") == 0
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("none.mp4 --click 1,1 --out out.mp4", "there is no file none.mp4"),
            ("in.mp4 --click 1,1", "nothing would be written; give --out"),
            ("in.mp4 --out out.mp4", "no prompt was given"),
            ("in.mp4 --click 640,1 --out out.mp4", "which is 64 pixels wide and 48 high"),
            ("in.mp4 --click 1 --out out.mp4", "--click 1 is not a click"),
            ("in.mp4 --box 5,5,1,1 --out out.mp4", "expected x1 < x2 and y1 < y2"),
            ("in.mp4 --click @12:1,1 --out out.mp4", "has 12 frames"),
            ("in.mp4 --click 1,1 --out in.mp4", "would overwrite the input"),
            ("in.mp4 --click 1,1 --out no/out.mp4", "the folder does not exist"),
            ("in.mp4 --click 1,1 --out out.avi", "must end in .mp4"),
            ("in.mp4 --click 1,1 --out out.mp4 --max-frames 0", "whole number from 1"),
            ("in.mp4 --click 1,1 --out out.mp4 --start x", "whole number from 0"),
            ("987 --click 1,1 --out out.mp4", "there is no camera 987"),
            ("in.mp4 --everything --click 1,1 --out out.mp4", "without prompts"),
            ("in.mp4 --click 1,1 --max-objects 3 --out out.mp4", "only with --everything"),
            ("in.mp4 --everything --max-objects 300 --out out.mp4", "from 1 to 255"),
            ("in.mp4 --everything --out out.mp4", "model.onnx"),
        ],
    )
    def test_bad_input_is_one_sentence(self, tmp_path, arguments, message, capsys):
        status = run_command(f"{arguments} --model model.onnx")
        assert_refused("qsam2-segment", status, message, capsys)
        assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.usefixtures("video")
class TestEverything:
    @pytest.fixture(autouse=True)
    def backend(self, monkeypatch):
        monkeypatch.setattr(everything, "open_backend", lambda *args, **options: FakeBackend())

    def test_a_video(self, tmp_path, capsys):
        status = run_command(
            "in.mp4 --model m.onnx --everything --max-objects 2 --points-per-side 4 "
            "--pred-iou-thresh 0.5 --stability-score-thresh 0 --stability-score-offset 0.5 "
            "--out out.mp4 --json out.json --max-frames 3"
        )
        assert status == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[2] == "masks found on the first frame: 1; tracked: all"
        assert lines[3] == "object 1: visible on 100% of 3 frames"
        frames = json.loads((tmp_path / "out.json").read_text())["frames"]
        assert [[o["object"] for o in frame["objects"]] for frame in frames] == [[1]] * 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("--pred-iou-thresh nan", "pred_iou_thresh must be a finite number, but got nan"),
            ("--pred-iou-thresh 0.95", "nothing was found on the first frame"),
            ("--points-per-side 0", "whole number from 1"),
        ],
    )
    def test_bad_input_is_one_sentence(self, tmp_path, arguments, message, capsys):
        line = f"in.mp4 --model m.onnx --everything --out out.mp4 {arguments}"
        assert_refused("qsam2-segment", run_command(line), message, capsys)
        assert os.listdir(tmp_path) == ["in.mp4"]


def test_model_is_required(capsys):
    status = run_command("in.mp4 --click 1,1 --out out.mp4")
    assert_refused("qsam2-segment", status, "--model", capsys)
