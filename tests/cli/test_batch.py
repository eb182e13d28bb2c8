"""The command qsam2-batch."""

import json
import os

import pytest

from qsam2_deploy.cli.batch import main
from tests.batch.conftest import CLICK, write_manifest
from tests.cli.refusal import assert_refused
from tests.support.media_samples import write_video
from tests.support.tiny_model import tiny_bytes


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(tiny_bytes())
    write_video(tmp_path / "a.mp4", 3)
    write_manifest(tmp_path, {"video": "a.mp4"}, {"video": "none.mp4"})


def run_command(line):
    return main(line.split())


def test_a_manifest(tmp_path, capsys):
    line = "videos.jsonl --model m.onnx -o out --json r.json --backend ort --workers 1"
    assert run_command(line) == 1
    out, err = capsys.readouterr()
    assert err.startswith("qsam2-batch: none: there is no file none.mp4; ")
    assert err.count("\n") == 1
    lines = out.splitlines()
    assert lines[0] == "1 done, 0 finished before, 1 failed"
    assert lines[1].startswith("3 frames in ")
    assert lines[1].endswith("frames per second, 1 worker, ort, exact)")
    assert lines[2] == "table: out/summary.csv"
    assert json.loads((tmp_path / "out/a/r.json").read_text())["complete"]
    write_video(tmp_path / "none.mp4", 3)
    assert run_command(line + " --quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "a.mp4").rename(tmp_path / "videos/a.mp4")
    line = "videos --click 20,20 --box 2:10,10,30,30 --model m.onnx -o out --json r.json"
    assert run_command(line + " --backend ort") == 0
    assert capsys.readouterr().out.startswith("1 done, 0 finished before, 0 failed\n3 frames")
    frames = json.loads((tmp_path / "out/a/r.json").read_text())["frames"]
    assert [item["object"] for item in frames[0]["objects"]] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("videos.jsonl", "nothing would be written; give --overlay or --masks or --json"),
        ("--json r.json", "give one of VIDEOS, --davis and --sa-v"),
        ("videos.jsonl --davis x --json r.json", "give one of VIDEOS, --davis and --sa-v"),
        ("videos.jsonl --click 1,1 --json r.json", "are for the videos of a folder"),
        ("videos.jsonl --sequences a --json r.json", "--sequences is for --davis and --sa-v"),
        ("none.jsonl --json r.json", "there is no manifest none.jsonl"),
        (". --json r.json", "there are no prompts for a.mp4; write a.json beside it"),
        ("twice.jsonl --json r.json", "line 1 of twice.jsonl and line 2 have the same name 'a'"),
        ("videos.jsonl --json a/r.json", "must be the name of a file or folder"),
        ("--davis none --masks m", "there is no folder none"),
        ("--sa-v none --object-masks m", "there is no folder none"),
        ("videos.jsonl --json r.json --backend none", "none"),
        ("videos.jsonl --json r.json --workers 0", "whole number from 1"),
        ("videos.jsonl --json r.json --out no/out", "the folder does not exist"),
        ("videos.jsonl --json r.json --model none.onnx", "none.onnx"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, message, capsys):
    entry = json.dumps({"video": "a.mp4", "prompts": CLICK})
    (tmp_path / "twice.jsonl").write_text(f"{entry}\n{entry}\n")
    before = sorted(os.listdir())
    status = run_command(f"--model m.onnx --out out {arguments}")
    assert_refused("qsam2-batch", status, message, capsys)
    assert sorted(set(os.listdir()) - {"out"}) == before
