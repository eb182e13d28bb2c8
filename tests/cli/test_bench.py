import json
from pathlib import Path

import pytest

from qsam2_deploy.cli.bench import main
from tests.cli.refusal import assert_refused


def test_table_and_json(model_path, tmp_path, capsys):
    arguments = ["--backend", "ort", "--frames", "2", "--objects", "2"]
    assert main([str(model_path), *arguments, "--json", str(tmp_path / "t.json")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    header, line = out.splitlines()
    assert "memory attention" in header
    assert line.startswith("small.onnx, ort ")
    assert "1.00x" in line
    data = json.loads((tmp_path / "t.json").read_text())
    assert (data["threads"], data["objects"]) == (1, 2)
    assert len(data["results"]["small.onnx, ort"]["frames_ms"]) == 2


def test_without_an_engine(model_path, monkeypatch, capsys):
    monkeypatch.setattr("qsam2_deploy.engines.registry.engines", dict)
    assert main([str(model_path)]) == 2
    assert "pip install 'qsam2-deploy[ort]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.onnx", "there is no model none.onnx"),
        ("text.onnx", "is not an ONNX model"),
        ("small.onnx --frames 0", "whole number from 1"),
        ("small.onnx --threads 100000", "100000 threads; ask for fewer"),
        ("small.onnx --backend torch", "invalid choice"),
        ("small.onnx --json none/t.json", "the folder does not exist"),
    ],
)
def test_bad_input(arguments, message, model_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("small.onnx").symlink_to(model_path)
    Path("text.onnx").write_text("no model")
    assert_refused("qsam2-bench", main(arguments.split()), message, capsys)
