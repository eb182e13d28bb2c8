from __future__ import annotations

import json
from pathlib import Path

import pytest

from qsam2_deploy.cli.bench import main
from tests.cli.helptext import check_help
from tests.support.weights import small_config, write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from qsam2_deploy.export import onnx_from_checkpoint

    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    path = write_checkpoint(tmp_path_factory.mktemp("bench") / "small.pt", config)
    onnx_from_checkpoint(
        path, path.with_suffix(".onnx"), config=path.with_suffix(".yaml"), show_progress=False
    )
    return path.with_suffix(".onnx")


def test_table_and_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--backend", "ort", "--frames", "2", "--objects", "2"]
    assert main([str(model), *arguments, "--json", str(tmp_path / "t.json")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    header, line = out.splitlines()
    assert "memory attention" in header
    assert line.startswith("small.onnx, ort ")
    assert "1.00x" in line
    data = json.loads((tmp_path / "t.json").read_text())
    assert (data["threads"], data["objects"]) == (1, 2)
    assert len(data["results"]["small.onnx, ort"]["frames_ms"]) == 2


def test_without_an_engine(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qsam2_deploy.engines.registry.engines", dict)
    assert main([str(model)]) == 2
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
def test_bad_input(
    arguments: str,
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.onnx").symlink_to(model)
    Path("text.onnx").write_text("no model")
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_help() -> None:
    check_help("bench", "--backend", "--threads", "--objects", heavy=("onnx", "onnxruntime"))
