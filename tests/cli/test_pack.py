"""``qsam2-pack`` as a user runs it."""

from pathlib import Path

import pytest

from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.cli.pack import main
from qsam2_deploy.export import onnx_from_checkpoint
from tests.cli.refusal import assert_refused
from tests.support.weights import small_config, write_checkpoint


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("pack")
    source = write_checkpoint(folder / "small.pt", small_config(64, d_model=32, memory_dim=8))
    (folder / "images").mkdir()
    for shade in (60, 180):
        Image.new("RGB", (80, 60), (shade, 90, 200)).save(folder / "images" / f"{shade}.png")
    config = CalibrationConfig(bits="w2a2", vrc="none")
    output, yaml = folder / "quantized.pt", source.with_suffix(".yaml")
    calibrate_checkpoint(source, folder / "images", output, config=config, model_config=yaml)
    return output


def test_the_packed_checkpoint_exports_to_the_same_graph(quantized, tmp_path, capsys):
    import onnx

    packed = tmp_path / "packed.pt"
    assert main([str(quantized), str(packed)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.rpartition(": ")[0] for line in out.splitlines()] == [str(quantized), str(packed)]
    graphs = []
    for path in (quantized, packed):
        model = tmp_path / f"{path.stem}.onnx"
        onnx_from_checkpoint(path, model, show_progress=False)
        graphs.append(onnx.load(model).graph.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1]


def test_bad_input_is_one_line(quantized, tmp_path, capsys):
    output = tmp_path / "packed.pt"
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    for arguments, message in (
        ([tmp_path / "none.pt", output], "there is no checkpoint"),
        ([text, output], "truncated or not a PyTorch checkpoint"),
        ([quantized.parent / "small.pt", output], "--config"),
        ([quantized, tmp_path], "it is a folder"),
    ):
        assert_refused("qsam2-pack", main([*map(str, arguments)]), message, capsys)
        assert not output.exists()
