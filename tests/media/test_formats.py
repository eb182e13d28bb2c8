"""Results in the forms of other tools, read back."""

import json

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.cli.segment import main as segment
from qsam2_deploy.data.datasets.rle import decode_rle, encode_rle
from qsam2_deploy.errors import InputError
from qsam2_deploy.media.writing.result_format import About, ResultWriter, format_helps, open_format
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.tracking.results import FrameResult, ObjectResult

FORMS = sorted(format_helps())
MASK = np.zeros((5, 7), bool)
MASK[1:3, 2:6] = True


def result(index, mask=MASK):
    logits = np.where(mask, 4, -4).astype(np.float32)
    return FrameResult(index, (ObjectResult(3, mask, logits, 2.0, visible=True),))


@pytest.fixture
def about():
    return About(5, 7, {"source": "cat.mp4", "model": "m.onnx"})


@pytest.mark.parametrize("name", FORMS)
def test_each_file_of_the_folder_is_a_form(name, about, tmp_path):
    """A form is nothing but its file: an option, a help, and a writer that leaves nothing empty."""
    assert format_helps()[name]
    writer = open_format(name, tmp_path / "out", about)
    assert isinstance(writer, ResultWriter)
    writer.close(complete=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        open_format(name, tmp_path / "absent" / "out", about)


def test_coco(about, tmp_path):
    path = tmp_path / "out.json"
    writer = open_format("coco", path, about)
    writer.write(12, result(12))
    writer.write(13, result(13, np.zeros((5, 7), bool)))
    writer.write(14, result(14, np.ones((5, 7), bool)))
    assert not path.exists()
    writer.close(complete=False)
    data = json.loads(path.read_text())
    assert data["info"] == {"source": "cat.mp4", "model": "m.onnx", "complete": False}
    assert [image["file_name"] for image in data["images"]] == [
        "00012.jpg", "00013.jpg", "00014.jpg",
    ]  # fmt: skip
    first, last = data["annotations"]
    assert (first["image_id"], last["image_id"]) == (1, 3)
    assert (first["track_id"], first["area"], first["bbox"]) == (3, 8, [2, 1, 4, 2])
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    assert (decode_rle(first["segmentation"], "x") == MASK).all()
    assert decode_rle(last["segmentation"], "x").all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
def test_coco_loads_in_its_own_reader(about, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    writer = open_format("coco", tmp_path / "out.json", about)
    writer.write(0, result(0))
    writer.close(complete=True)
    loaded = coco.COCO(str(tmp_path / "out.json"))
    (annotation,) = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
    assert (loaded.annToMask(annotation).astype(bool) == MASK).all()


@pytest.mark.parametrize("seed", range(4))
def test_runs_of_any_mask_come_back(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 40), rng.integers(1, 40))) < rng.random()
    assert (decode_rle(encode_rle(mask), "x") == mask).all()


def test_the_command_writes_it(model_path, tmp_path, capsys):
    picture = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(picture)
    out = tmp_path / "out.json"
    line = [str(picture), "--model", str(model_path), "--click", "20,20", "--threads", "1"]
    assert segment([*line, "--backend", "ort", "--coco", str(out)]) == 0
    assert f"coco: {out}" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["images"]) == 1
    assert segment([*line, "--coco", str(out), "--json", str(out)]) == 2
    assert "given for two outputs" in capsys.readouterr().err


def test_an_unknown_form(model_path, tmp_path):
    with pytest.raises(InputError, match="there is no form of results 'yolo9'; expected one of"):
        segment_video(tmp_path, model_path, [], formats={"yolo9": tmp_path / "x"})
