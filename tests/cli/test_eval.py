"""The command qsam2-eval."""

import json
import os
import shutil

import pytest

from qsam2_deploy.cli.eval import main
from tests.cli.refusal import assert_refused
from tests.data.datasets import moving, write_davis


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_davis("davis", {"a": moving(6), "b": moving(4), "c": moving(4)})
    shutil.copytree("davis/Annotations/480p", "results")
    return tmp_path


def run_command(line):
    return main(line.split())


def test_everything(folder, capsys):
    status = run_command(
        "results --davis davis --sequences b,a --prompt click --json out.json --plot worst.png "
        "--save-masks masks"
    )
    assert status == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    assert lines[2] == ["b", "1", "100.00", "100.00", "100.00"]
    assert lines[3][0] == "a"
    assert lines[-1][:3] == ["mean", "of", "objects"]
    data = json.loads((folder / "out.json").read_text())
    assert list(data["sequences"]) == ["b", "a"]
    assert data["settings"]["prompt"] == "click"
    assert (folder / "worst.png").stat().st_size > 1000
    assert len(os.listdir("masks/a")) == 6


def test_quiet(capsys):
    assert run_command("results --davis davis --quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("results", "one of the arguments --davis --sa-v --images --manifest is required"),
        ("results --davis davis --sa-v davis", "not allowed with argument"),
        ("results --davis none", "there is no folder none"),
        ("results --sa-v davis", "is no SA-V folder"),
        ("results --manifest none.jsonl", "there is no manifest none.jsonl"),
        ("results --images results", "holds no sequence"),
        ("results --davis davis --sequences zebra", "known are: a, b, c"),
        ("results --davis davis --sequences a,zebra", "there is no sequence 'zebra'"),
        ("results --davis davis --resolution 1080p", "there is no folder davis/JPEGImages/1080p"),
        ("none.onnx --davis davis", "there is no model none.onnx"),
        ("none.pt --davis davis", "there is no model none.pt"),
        ("junk.onnx --davis davis", "junk.onnx is not an ONNX model"),
        ("junk.pt --davis davis", "junk.pt is truncated or not a PyTorch checkpoint"),
        ("junk.txt --davis davis", "cannot evaluate junk.txt"),
        ("results --davis davis --prompt word", "argument --prompt: invalid choice"),
        ("results --images davis --prompt mask", "with a click or a box"),
        ("results --davis davis --threads 0", "whole number from 1"),
        ("results --davis davis --memory-frames 0", "whole number from 1"),
        ("results --davis davis --memory-frames 2", "memory_frames is for exported models"),
        ("junk.pt --davis davis --memory-frames 2", "but got junk.pt"),
        ("results --davis davis --plot o.gif", "must end in .png or .jpg"),
        ("results --davis davis --json no/o.json", "the folder does not exist"),
        ("results --davis davis --json results", "it is a folder"),
        ("results --davis davis --save-masks junk.txt", "it is a file, no folder"),
    ],
)
def test_bad_input_is_one_sentence(folder, arguments, message, capsys):
    for name in ("junk.onnx", "junk.pt", "junk.txt"):
        (folder / name).write_bytes(b"junk")
    before = sorted(os.listdir())
    extra = "" if "--json" in arguments else " --json new.json"
    assert_refused("qsam2-eval", run_command(arguments + extra), message, capsys)
    assert sorted(os.listdir()) == before


def test_damaged_results_leave_no_file(folder, capsys):
    (folder / "results/b/00001.png").write_bytes(b"junk")
    assert run_command("results --davis davis --json out.json --plot out.png --save-masks m") == 2
    assert "cannot read results/b/00001.png" in capsys.readouterr().err
    # Masks are written as they come, each of them whole; the scores only at the end.
    assert sorted(os.listdir()) == ["davis", "m", "results"]
    assert len(os.listdir("m/a")) == 6
