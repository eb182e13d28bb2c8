"""Calibration images from every source, prepared like the official predictor's."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qsam2_deploy._common.spread import spread_indices
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.errors import InputError, MissingDependencyError, VideoError


def _grey(path: Path, level: int) -> None:
    Image.new("RGB", (20, 10), (level, level, level)).save(path)


def _levels(images: object) -> list[int]:
    """Return the grey level of each image, undoing the normalisation of the red channel."""
    return [round(float(x[0, 0].mean() * 0.229 + 0.485) * 255) for x in images]


def test_preparation_equals_the_official_loader(tmp_path):
    from sam2.utils.misc import load_video_frames

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg")
    official, _, _ = load_video_frames(
        str(tmp_path), 64, offload_video_to_cpu=True, compute_device=torch.device("cpu")
    )
    (ours,) = calibration_images(tmp_path, 64)
    assert ours.dtype == torch.float32
    assert ours.shape == (1, 3, 64, 64)
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, official.float(), rtol=0, atol=1e-6)


def test_folders_are_searched_in_natural_order(tmp_path):
    (tmp_path / "2").mkdir()
    (tmp_path / "10").mkdir()
    names = {"2/9.png": 10, "2/10.PNG": 20, "10/1.jpg": 30, "10/x.txt": 0, "10/x2.bmp": 40}
    for name, level in names.items():
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            _grey(tmp_path / name, level)
    images = calibration_images(tmp_path, 32)
    assert len(images) == 4
    assert _levels(images) == [10, 20, 30, 40]
    assert _levels(images) == [10, 20, 30, 40], "it can be iterated over again"


def test_the_limit_spreads_evenly(tmp_path):
    for index in range(20):
        _grey(tmp_path / f"{index}.png", 10 * index)
    assert _levels(calibration_images(tmp_path, 32, limit=4)) == [20, 70, 120, 170]
    assert len(calibration_images(tmp_path, 32, limit=100)) == 20


@pytest.mark.parametrize(("count", "limit"), [(1, 1), (7, 3), (50, 50), (1000, 7), (0, 5)])
def test_spread_indices(count, limit):
    found = spread_indices(count, limit)
    assert len(found) == min(count, limit)
    assert found == sorted(set(found))
    assert all(0 <= i < count for i in found)


def test_a_single_image(tmp_path):
    _grey(tmp_path / "one.webp", 99)
    assert len(calibration_images(tmp_path / "one.webp", 32)) == 1


def _video(path: Path, frames: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            pixels = np.full((48, 64, 3), 20 + 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_videos_give_evenly_spaced_frames(tmp_path):
    _video(tmp_path / "clip.mp4", 20)
    images = calibration_images(tmp_path / "clip.mp4", 32, limit=4)
    np.testing.assert_allclose(_levels(images), [40, 90, 140, 190], atol=5)
    names = [images.name(index) for index in range(4)]
    assert names == [f"frame {index} of {tmp_path / 'clip.mp4'}" for index in (2, 7, 12, 17)]
    assert len(calibration_images(tmp_path / "clip.mp4", 32)) == 20


def test_bad_sources_give_one_sentence(tmp_path):
    with pytest.raises(VideoError, match="there is no calibration data"):
        calibration_images(tmp_path / "missing", 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match=r"no images found in .*empty"):
        calibration_images(tmp_path / "empty", 32)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"cannot read .*text.mp4 as a video"):
        calibration_images(tmp_path / "text.mp4", 32)
    with pytest.raises(InputError, match="at least 1, but got 0"):
        calibration_images(tmp_path, 32, limit=0)


@pytest.mark.parametrize("damage", ["text", "truncated"])
def test_damaged_images_are_named(tmp_path, damage):
    path = tmp_path / "bad.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(b"no image" if damage == "text" else path.read_bytes()[:400])
    with pytest.raises(VideoError, match=r"cannot read the calibration image .*bad.jpg"):
        list(calibration_images(tmp_path, 32))


def test_a_missing_video_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"qsam2-deploy\[video\]"):
        calibration_images(tmp_path / "clip.mp4", 32)
