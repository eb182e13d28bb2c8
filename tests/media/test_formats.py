"""Results in the forms of other tools, read back."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.cli.segment import main as segment
from qsam2_deploy.data.datasets.image_files import read_mask
from qsam2_deploy.data.datasets.rle import decode_rle, encode_rle
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import InputError, MissingDependencyError
from qsam2_deploy.media.protocols import Shown
from qsam2_deploy.media.writing.result_format import (
    About,
    FrameRecord,
    ResultWriter,
    format_helps,
    open_format,
)
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.tracking.results import FrameResult, ObjectResult
from tests.media.test_polygons import inside
from tests.media.test_writers import fill_disk, needs_full_disk
from tests.support.media_samples import write_video

FORMS = sorted(format_helps())
HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH]
DISC = (X - 20) ** 2 + (Y - 22) ** 2 < 15**2
RING = DISC & ((X - 24) ** 2 + (Y - 20) ** 2 >= 6**2)
PARTS = DISC | ((X > 44) & (X < 60) & (Y > 3) & (Y < 40))
EMPTY = np.zeros((HEIGHT, WIDTH), bool)
MASKS = {"disc": DISC, "ring": RING, "parts": PARTS, "all": ~EMPTY}
IMAGE = np.stack([4 * X, 5 * Y, X + Y], axis=-1).astype(np.uint8)


def found(object_id, mask, score=2.0):
    logits = np.where(mask, 4, -4).astype(np.float32)
    return ObjectResult(object_id, mask, logits, score, visible=score > 0)


def record(index, *objects):
    return FrameRecord(index, IMAGE, FrameResult(index, objects), Shown(index / 25, None))


def write(name, path, records, *, complete=True):
    about = About(HEIGHT, WIDTH, {"source": "cat.mp4", "model": "m.onnx"}, 25.0)
    writer = open_format(name, path, about)
    for item in records:
        writer.write(item)
    writer.close(complete=complete)
    return path


def name_of(form):
    return "out.npz" if form == "numpy" else "out"


@pytest.fixture
def about():
    return About(HEIGHT, WIDTH, {"source": "cat.mp4", "model": "m.onnx"})


@pytest.mark.parametrize("name", FORMS)
def test_each_file_of_the_folder_is_a_form(name, about, tmp_path):
    """A form is nothing but its file: an option, a help, and a writer that leaves nothing empty."""
    assert format_helps()[name]
    writer = open_format(name, tmp_path / name_of(name), about)
    assert isinstance(writer, ResultWriter)
    writer.close(complete=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        open_format(name, tmp_path / "absent" / name_of(name), about)


@needs_full_disk
@pytest.mark.parametrize("name", ["coco", "coco_polygons", "numpy", "sav"])
def test_full_disk_leaves_nothing(name, about, tmp_path):
    writer = open_format(name, tmp_path / name_of(name), about)
    writer.write(record(0, found(1, DISC)))
    fill_disk(writer)
    with pytest.raises(InputError, match="the disk is full"):
        writer.close(complete=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cutouts", "object_masks", "yolo"])
def test_full_disk_leaves_no_half_picture(name, about, tmp_path, monkeypatch):
    def save(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    writer = open_format(name, tmp_path / "out", about)
    with pytest.raises(InputError, match="the disk is full"):
        writer.write(record(0, found(1, DISC)))
    writer.close(complete=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMS)
def test_a_file_or_folder_that_is_there_is_refused(name, about, tmp_path):
    path = tmp_path / name_of(name)
    if name in ("cutouts", "object_masks", "yolo"):
        path.touch()
    else:
        path.mkdir()
    with pytest.raises(InputError, match="it is a f"):
        open_format(name, path, about)


def test_coco(tmp_path):
    records = [
        record(12, found(3, RING)),
        record(13, found(3, EMPTY)),
        record(14, found(3, ~EMPTY)),
    ]
    data = json.loads(write("coco", tmp_path / "o.json", records, complete=False).read_text())
    assert data["info"] == {"source": "cat.mp4", "model": "m.onnx", "complete": False}
    assert [image["file_name"] for image in data["images"]] == [
        "00012.jpg", "00013.jpg", "00014.jpg",
    ]  # fmt: skip
    first, last = data["annotations"]
    assert (first["image_id"], last["image_id"]) == (1, 3)
    assert (first["track_id"], first["area"]) == (3, RING.sum())
    assert first["bbox"] == [6, 8, 29, 29]
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    assert (decode_rle(first["segmentation"], "x") == RING).all()
    assert decode_rle(last["segmentation"], "x").all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("form", ["coco", "coco_polygons"])
def test_coco_loads_in_its_own_reader(tmp_path, form, mask):
    """To the pixel, also with polygons, holes and parts."""
    coco = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    loaded = coco.COCO(str(write(form, tmp_path / "o.json", [record(0, found(3, MASKS[mask]))])))
    (annotation,) = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
    assert (loaded.annToMask(annotation).astype(bool) == MASKS[mask]).all()


@pytest.mark.parametrize("mask", MASKS)
def test_polygons_cover_the_mask(tmp_path, mask):
    path = write("coco_polygons", tmp_path / "o.json", [record(0, found(3, MASKS[mask]))])
    (annotation,) = json.loads(path.read_text())["annotations"]
    read = [np.array(polygon).reshape(-1, 2) for polygon in annotation["segmentation"]]
    covers = [inside(polygon, (HEIGHT, WIDTH)) for polygon in read]
    assert (np.sum(covers, axis=0) == MASKS[mask]).all()  # none covers a pixel of another
    assert len(covers) == {"disc": 1, "all": 1}.get(mask, 2)


def fill(line):
    """Read a line as Ultralytics does, and fill it."""
    values = np.array(line.split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    return cv2.fillPoly(drawn, [values.astype(np.int32)], 1).astype(bool)


@pytest.mark.parametrize(("mask", "lost"), [("disc", 0), ("ring", 0), ("parts", 12), ("all", 0)])
def test_yolo(tmp_path, mask, lost):
    records = [record(7, found(1, MASKS[mask]), found(2, EMPTY)), record(8, found(1, EMPTY))]
    folder = write("yolo", tmp_path / "o", records)
    (line,) = (folder / "labels/00007.txt").read_text().splitlines()
    assert line.startswith("0 ")
    read = fill(line)
    assert read[MASKS[mask]].all()
    assert (read & ~MASKS[mask]).sum() <= lost  # the line from part to part
    assert (folder / "labels/00008.txt").read_text() == ""
    with Image.open(folder / "images/00007.jpg") as image:
        assert np.abs(np.array(image).astype(int) - IMAGE).mean() < 3


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_yolo_has_three_points_at_least(tmp_path, pixels):
    mask = EMPTY.copy()
    mask[10, 20 : 20 + pixels] = True
    folder = write("yolo", tmp_path / "o", [record(0, found(1, mask))])
    line = (folder / "labels/00000.txt").read_text()
    assert len(line.split()) >= 7
    assert (fill(line) == mask).all()


def test_sav(tmp_path):
    write_video(tmp_path / "cat.mp4", 14, height=HEIGHT, width=WIDTH)
    records = [record(i, found(4, DISC if i < 8 else EMPTY)) for i in range(6)]
    records += [record(i, found(4, EMPTY), found(9, RING)) for i in range(6, 14)]
    data = json.loads(write("sav", tmp_path / "cat_manual.json", records).read_text())
    assert data["video_id"] == "cat"
    assert data["video_duration"] == pytest.approx(14 / 25)
    assert data["masklet_size_abs"] == [DISC.sum(), RING.sum()]
    assert data["masklet_first_appeared_frame"] == [0, 2]
    assert data["masklet_visibility_changes"] == [1, 0]
    (video,) = sav_sequences(tmp_path)
    assert (video.annotated, video.object_ids) == ((0, 4, 8, 12), (4, 9))
    for index, first, second in [(0, DISC, EMPTY), (4, DISC, EMPTY), (8, EMPTY, RING)]:
        masks = video.masks(index)
        assert (masks[4] == first).all()
        assert (masks[9] == second).all()
    assert video.frame(13).shape == (HEIGHT, WIDTH, 3)


def test_sav_of_a_part_counts_from_the_first_frame(tmp_path):
    write_video(tmp_path / "cat.mp4", 14, height=HEIGHT, width=WIDTH)
    write("sav", tmp_path / "cat_manual.json", [record(i, found(1, DISC)) for i in range(5, 10)])
    (video,) = sav_sequences(tmp_path)
    assert [video.masks(i)[1].any() for i in video.annotated] == [False, False, True]


def test_object_masks_may_overlap(tmp_path):
    records = [record(4, found(3, DISC)), record(5, found(3, DISC), found(0, ~EMPTY, -1.0))]
    path = write("object_masks", tmp_path / "out", records)
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*.png"))
    assert files == ["000/00005.png", "003/00004.png", "003/00005.png"]
    assert (read_mask(path / "000/00005.png") == ~EMPTY).all()
    assert (read_mask(path / "003/00005.png") == DISC).all()


def test_numpy(tmp_path):
    odd = np.random.default_rng(0).random((HEIGHT, 61)) < 0.5
    writer = open_format("numpy", tmp_path / "o.npz", About(HEIGHT, 61, {}))
    writer.write(FrameRecord(3, IMAGE, FrameResult(3, (found(5, odd, 1.5),)), Shown(0.12, None)))
    writer.write(FrameRecord(4, IMAGE, FrameResult(4, (found(5, ~odd), found(2, odd)))))
    writer.close(complete=True)
    with np.load(tmp_path / "o.npz") as arrays:
        read = dict(arrays)
    masks = np.unpackbits(read["masks"], axis=-1, count=int(read["width"])).astype(bool)
    assert (masks == [[odd, np.zeros_like(odd)], [~odd, odd]]).all()
    assert read["object_ids"].tolist() == [5, 2]
    assert read["frames"].tolist() == [3, 4]
    np.testing.assert_array_equal(read["times"], [0.12, np.nan])
    np.testing.assert_array_equal(read["scores"], np.float32([[1.5, np.nan], [2, 2]]))
    assert read["complete"]


def test_arrays_need_their_suffix(tmp_path, about):
    with pytest.raises(InputError, match=r"must end in \.npz"):
        open_format("numpy", tmp_path / "o.npy", about)


@pytest.mark.parametrize("form", ["coco", "coco_polygons"])
def test_supervision_reads_coco(tmp_path, form):
    sv = supervision()
    path = write(form, tmp_path / "o.json", [record(0, found(1, RING))])
    Image.fromarray(IMAGE).save(tmp_path / "00000.jpg")
    data = sv.DetectionDataset.from_coco(str(tmp_path), str(path), force_masks=True)
    (detections,) = data.annotations.values()
    # It colours the outlines of polygons, too.
    assert overlap(detections.mask.any(axis=0), RING) >= (1 if form == "coco" else 0.85)


@pytest.mark.parametrize("mask", ["disc", "ring", "parts"])
def test_supervision_reads_yolo(tmp_path, mask):
    sv = supervision()
    folder = write("yolo", tmp_path / "o", [record(0, found(1, MASKS[mask]))])
    data = sv.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    assert data.classes == ["object"]
    (detections,) = data.annotations.values()
    assert overlap(detections.mask[0], MASKS[mask]) > 0.98


def test_detections_of_a_result():
    sv = supervision()
    result = FrameResult(0, (found(4, DISC), found(5, EMPTY), found(9, RING, -1.0)))
    detections = result.to_supervision()
    assert isinstance(detections, sv.Detections)
    assert (detections.mask == [DISC, RING]).all()
    assert detections.tracker_id.tolist() == [4, 9]
    assert detections.xyxy[0].tolist() == [6, 8, 34, 36]
    np.testing.assert_allclose(detections.confidence, [0.880797, 0.268941], rtol=1e-5)
    assert len(FrameResult(0, (found(5, EMPTY),)).to_supervision()) == 0


def test_supervision_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="run: pip install supervision"):
        FrameResult(0).to_supervision()


def supervision():
    return pytest.importorskip("supervision", reason="pip install supervision")


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


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
