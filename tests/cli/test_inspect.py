import json
import shutil
from pathlib import Path

import pytest

from qsam2_deploy.cli.inspect import main
from qsam2_deploy.engine_build.build import engine_from_onnx
from qsam2_deploy.engines.tensorrt.library import library_from_module
from qsam2_deploy.inspection.engines import ENGINES
from qsam2_deploy.spec import COMPONENTS
from tests import tensorrt_double as doubles
from tests.cli.refusal import assert_refused
from tests.support.weights import load_written, small_config, write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from qsam2_deploy.export import onnx_from_checkpoint
    from tests.support.quantized_model import quantize_model

    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    path = write_checkpoint(tmp_path_factory.mktemp("inspect") / "small.pt", config)
    loaded = load_written(path)
    onnx_from_checkpoint(quantize_model(loaded, 2), path.with_suffix(".onnx"), show_progress=False)
    return path.with_suffix(".onnx")


def test_table_and_json(model, tmp_path, capsys):
    assert main([str(model), "--layers", "--json", str(tmp_path / "m.json")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("small.onnx: small, image size 64\nW2A2 by lsc in the scope all: ")
    data = json.loads((tmp_path / "m.json").read_text())
    assert data["file"] == "small.onnx"
    assert f"sha256 {data['sha256']}" in out
    lines = {line.split()[0] for line in out.splitlines() if line.strip()}
    assert {layer["name"].partition("/")[2] for layer in data["layers"]} <= lines
    assert main([str(model)]) == 0
    short = capsys.readouterr().out
    assert out.startswith(short.rstrip("\n"))
    assert len(short.splitlines()) < 40


def test_an_engine(model, tmp_path, capsys):
    double = doubles.fresh_double("tensorrt-10.3")
    table = "Name: _gemm_mha_v2_myl0_4, LayerType: kgen, Inputs: [], Constants: [], Outputs: []"
    double.script.log = [("VERBOSE", f"{table}\n{table}")]
    library = library_from_module("tensorrt", double.module)
    path, numbers = tmp_path / "m.engine", tmp_path / "m.json"
    engine_from_onnx(model, path, precision="int8", library=library, self_test=False)
    assert main([str(path), "--json", str(numbers)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "m.engine: small, image size 64"
    assert lines[1].startswith("int8 by tensorrt 10.3.0, for GPUs")
    rows = [line.split() for line in lines[5:9]]
    assert [row[0] for row in rows] == list(COMPONENTS)
    assert [row[1:3] + row[4:6] for row in rows] == [["int8", "fusible", "2", "2"]] * 4
    report = json.loads(numbers.read_text())
    assert report["model_sha256"] in out
    assert [component["layers"]["attentions"] for component in report["components"]] == [2] * 4
    assert report["components"][1]["profiles"][1]["name"] == "steady"
    assert main([str(path), "--layers"]) == 2
    assert "--layers and --data are for a model.onnx" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-1])
    assert main([str(path)]) == 2
    assert "is truncated" in capsys.readouterr().err


def test_quiet(model, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(ENGINES, "openvino")  # compiling takes seconds
    assert main([str(model), "--quiet", "--json", str(tmp_path / "m.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.onnx", "there is no model none.onnx"),
        (".", "is a folder; expected a model file"),
        ("text.onnx", "is not an ONNX model"),
        ("cut.onnx", "cut.onnx"),
        ("flipped.onnx", "is damaged"),
        ("m.onnx --data none.mp4", "none.mp4"),
        ("m.onnx --images 0", "whole number from 1"),
        ("m.onnx --json none/m.json", "the folder does not exist"),
        ("m.onnx --json .", "it is a folder"),
    ],
)
def test_bad_input_is_one_sentence(model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, "m.onnx")
    data = bytearray(model.read_bytes())
    Path("text.onnx").write_text("no model\n")
    Path("cut.onnx").write_bytes(data[: len(data) // 2])
    data[len(data) // 2] ^= 1
    Path("flipped.onnx").write_bytes(data)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert_refused("qsam2-inspect", main(arguments.split()), message, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
