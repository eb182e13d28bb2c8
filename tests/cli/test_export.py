"""``qsam2-export`` as a user runs it."""

from pathlib import Path

import onnx
import pytest

from qsam2_deploy.cli.export import main
from qsam2_deploy.cli.inspect import main as inspect_model
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS
from tests.cli.refusal import assert_refused
from tests.support.weights import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("cli") / "small.pt")


def test_writes_the_model_and_says_where(checkpoint, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    config = str(checkpoint.with_suffix(".yaml"))
    assert main([str(checkpoint), str(output), "--config", config]) == 0
    assert output.exists()
    assert str(output) in capsys.readouterr().out


def test_split_writes_four_models(checkpoint, tmp_path):
    output, folder = tmp_path / "model.onnx", tmp_path / "parts"
    config = str(checkpoint.with_suffix(".yaml"))
    assert main([str(checkpoint), str(output), "--config", config, "--split", str(folder)]) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"{component}.onnx" for component in COMPONENTS)
    for path in folder.iterdir():
        onnx.checker.check_model(onnx.load(path), full_check=True)


def test_pooled_memory_is_written_down(checkpoint, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    arguments = [str(checkpoint), str(output), "--config", str(checkpoint.with_suffix(".yaml"))]
    assert main([*arguments, "--pool-memory", "5"]) == 2
    assert "whose side divides" in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, "--pool-memory", "2"]) == 0
    assert "memory pooled 2x2: other masks than the checkpoint's" in capsys.readouterr().out
    assert read_bundle(output).spec.memory_pooling == 2
    assert inspect_model([str(output)]) == 0
    assert "memory tokens pooled 2x2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there is no checkpoint"), (b"", "truncated"), (b"not a checkpoint", "truncated")],
)
def test_bad_checkpoint_is_one_line(content, words, tmp_path, capsys):
    source, output = tmp_path / "bad.pt", tmp_path / "model.onnx"
    if content is not None:
        source.write_bytes(content)
    assert_refused("qsam2-export", main([str(source), str(output)]), words, capsys)
    assert not output.exists()


@pytest.mark.parametrize("opset", [16, 26])
def test_impossible_opset_is_one_line(opset, checkpoint, tmp_path, capsys):
    arguments = ["--config", str(checkpoint.with_suffix(".yaml")), "--opset", str(opset)]
    status = main([str(checkpoint), str(tmp_path / "model.onnx"), *arguments])
    message = f"the opset must be 17 to 25, but got {opset}"
    assert_refused("qsam2-export", status, message, capsys)
    assert not list(tmp_path.iterdir())


def test_unknown_architecture_asks_for_its_config(checkpoint, tmp_path, capsys):
    assert main([str(checkpoint), str(tmp_path / "model.onnx")]) == 2
    assert "--config" in capsys.readouterr().err


def test_missing_torch_is_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "sam2" else name)
    assert main([str(checkpoint), str(tmp_path / "model.onnx")]) == 2
    assert "pip install 'qsam2-deploy[export]'" in capsys.readouterr().err
