"""Objects alone, with transparency that comes back."""

import av
import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError
from qsam2_deploy.media.protocols import Colours, Shown
from qsam2_deploy.media.writing.formats.cutouts import cut_out
from qsam2_deploy.media.writing.result_format import About, FrameRecord, open_format
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.tracking.results import FrameResult, ObjectResult
from tests.predictors.test_segment_video import CLICK, FakeSegmenter
from tests.support.media_samples import write_video

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH]
DISC = (X - 30) ** 2 + (Y - 22) ** 2 < 15**2
SQUARE = (X > 40) & (Y > 20)
EMPTY = np.zeros_like(DISC)
IMAGE = np.stack([3 * X + 20, 4 * Y + 10, 200 - X - Y], axis=-1).astype(np.uint8)
DECODERS = {".webm": "libvpx-vp9", ".mov": "prores"}


def record(index, **masks):
    """Return a frame with objects ``o1=mask``."""
    objects = [
        ObjectResult(int(name[1:]), mask, np.where(mask, 1, -1).astype(np.float32), 1.0, True)
        for name, mask in masks.items()
    ]
    return FrameRecord(index, IMAGE, FrameResult(index, tuple(objects)), Shown(index / 10, 0.1))


def write(path, records, **about):
    writer = open_format("cutouts", path, About(HEIGHT, WIDTH, {}, 10.0, **about))
    try:
        for item in records:
            writer.write(item)
    finally:
        writer.close(complete=True)


def read(path):
    """Return times and uint8 RGBA frames; FFmpeg's own decoder of VP9 leaves transparency out."""
    decoder = av.CodecContext.create(DECODERS[path.suffix], "r")
    times, frames = [], []
    with av.open(str(path)) as container:
        unit = container.streams.video[0].time_base
        for packet in container.demux(video=0):
            for frame in decoder.decode(packet if packet.size else None):
                times.append(float(frame.pts * unit))
                frames.append(frame.to_ndarray(format="rgba"))
    return times, frames


def test_png(tmp_path):
    records = [record(4, o1=DISC), record(5, o1=EMPTY, o7=SQUARE)]
    write(tmp_path / "cut", records)
    names = sorted(p.relative_to(tmp_path / "cut").as_posix() for p in tmp_path.glob("cut/*/*"))
    assert names == ["1/00004.png", "1/00005.png", "7/00005.png"]
    for name, mask in zip(names, (DISC, EMPTY, SQUARE), strict=True):
        with Image.open(tmp_path / "cut" / name) as image:
            assert image.mode == "RGBA"
            pixels = np.array(image)
        assert (pixels[..., 3] == np.where(mask, 255, 0)).all()
        assert (pixels[..., :3] == np.where(mask[..., None], IMAGE, 0)).all()


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_video(tmp_path, suffix):
    """Each object has a video as long as the run, in its place."""
    records = [record(0, o1=DISC), record(1, o1=DISC), record(2, o1=EMPTY, o7=SQUARE)]
    write(tmp_path / f"cut{suffix}", records, colours=Colours(1, 1, 1, full_range=False))
    found = {1: [DISC, DISC, EMPTY], 7: [EMPTY, EMPTY, SQUARE]}
    assert len(list(tmp_path.iterdir())) == 2
    for number, masks in found.items():
        times, frames = read(tmp_path / f"cut_{number}{suffix}")
        assert times == pytest.approx([0, 0.1, 0.2], abs=0.0015)
        for mask, frame in zip(masks, frames, strict=True):
            alpha = frame[..., 3].astype(int)
            assert np.abs(alpha - np.where(mask, 255, 0)).mean() < 3
            inside = np.abs(frame[mask][:, :3].astype(int) - IMAGE[mask])
            assert inside.mean() < 8 if mask.any() else inside.size == 0


def test_colours_stay_at_the_edge_alone():
    cut = cut_out(IMAGE, DISC, margin=2)
    edge = cut[..., :3].any(axis=2) & ~DISC
    distance = np.sqrt((X - 30) ** 2 + (Y - 22) ** 2)
    assert edge.any()
    assert distance[edge].max() < 18
    assert (cut[edge, :3] == IMAGE[edge]).all()
    assert (cut[..., 3] == np.where(DISC, 255, 0)).all()


def test_input_is_not_overwritten_by_an_object(tmp_path):
    source = write_video(tmp_path / "cut_1.webm", 3, codec="libvpx-vp9")
    before = source.read_bytes()
    with pytest.raises(InputError, match=r"cut_1\.webm would replace an input or another output"):
        segment_video(
            source, "m.onnx", [CLICK], formats={"cutouts": tmp_path / "cut.webm"},
            segmenter=FakeSegmenter, show_progress=False,
        )  # fmt: skip
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]


def test_summary_names_the_files(tmp_path):
    source = write_video(tmp_path / "in.mp4", 3)
    summary = segment_video(
        source, "m.onnx", [CLICK], formats={"cutouts": tmp_path / "cut.webm"},
        segmenter=FakeSegmenter, show_progress=False,
    )  # fmt: skip
    assert summary.outputs == {"cutouts": tmp_path / "cut_*.webm"}
    assert (tmp_path / "cut_1.webm").exists()


@pytest.mark.parametrize("name", ["cut.mp4", "cut.gif", "cut.png"])
def test_file_without_transparency(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.webm or \.mov, or a folder"):
        write(tmp_path / name, [])
