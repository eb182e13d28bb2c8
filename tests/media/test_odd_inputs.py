"""Inputs that few programs meet: each gives its frames; and the tests that docs/inputs.md names."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading.sources import open_frames, open_indexed, source_from_text
from tests.support.media_samples import (
    HEIGHT,
    WIDTH,
    frame_image,
    frame_number,
    write_folder,
    write_video,
)

ROOT = Path(__file__).parents[2]
AV1 = {"preset": "12", "svtav1-params": "lookahead=0"}
INTERLACED = {"flags": "+ildct+ilme", "b": "3M"}
X265 = {"x265-params": "log-level=none"}

VIDEOS = {
    "hevc.mp4": ("libx265", "yuv420p10le", X265),
    "odd.mkv": ("libx264", "yuv444p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
    "av1.mkv": ("libsvtav1", "yuv420p", AV1),
    "motion.avi": ("mjpeg", "yuvj420p", {}),
    "grey.mkv": ("ffv1", "gray", {}),
    "broadcast.ts": ("libx264", "yuv420p", {}),
    "interlaced.mpg": ("mpeg2video", "yuv420p", INTERLACED),
}
SIZES = {"odd.mkv": (47, 63), "av1.mkv": (96, 128)}


def encode(path, codec, pixel_format, options, size, frames=6):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        (stream.height, stream.width), stream.pix_fmt = size, pixel_format
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(frame_image(index, *size), format="rgb24")
            container.mux(stream.encode(picture.reformat(format=pixel_format)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", VIDEOS)
def test_kinds_of_video(tmp_path, name):
    codec, pixel_format, options = VIDEOS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    size = SIZES.get(name, (HEIGHT, WIDTH))
    path = encode(tmp_path / name, codec, pixel_format, options, size)
    with open_frames(path) as frames:
        assert (frames.height, frames.width) == size
        assert [frame_number(f) for f in frames] == list(range(6))
        assert frames.warning is None
    with open_indexed(path) as indexed:
        assert [frame_number(indexed[i]) for i in (5, 0, 3)] == [5, 0, 3]


@pytest.mark.parametrize("size", [(1080, 64), (16, 1920), (2, 2)])
def test_sizes_of_video(tmp_path, size):
    path = encode(tmp_path / "v.mp4", "libx264", "yuv420p", {}, size, frames=2)
    with open_frames(path) as frames:
        assert [f.shape for f in frames] == [(*size, 3)] * 2


def test_video_of_one_frame(tmp_path):
    with open_frames(write_video(tmp_path / "v.mp4", 1)) as frames:
        assert len(list(frames)) == frames.num_frames == 1


@pytest.mark.parametrize("opener", [open_frames, open_indexed, source_from_text])
def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch, opener):
    write_folder(tmp_path / "frames", ["0.jpg"])
    monkeypatch.chdir(tmp_path / "frames")
    with pytest.raises(VideoError, match="the name of the video is empty"):
        opener("")


def test_names_with_blanks_and_umlauts(tmp_path):
    names = ["Bär 2.png", "Bär 10.png", "Bär 11.png"]
    folder = write_folder(tmp_path / "ein Öl", names)
    with open_frames(folder) as frames:
        assert [frame_number(f) for f in frames] == [0, 1, 2]
    with open_frames(folder / "Bär %d.png") as frames:
        assert [frame_number(f) for f in frames] == [0, 1, 2]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGBA", "png"), ("P", "png"), ("L", "png"), ("LA", "png"), ("1", "png"), ("CMYK", "jpg")],
)
def test_kinds_of_image(tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(frame_image(5)).convert(mode).save(path)
    with open_frames(path) as frames:
        (frame,) = frames
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame_number(frame) == 5


def test_colours_of_16_bits_keep_their_upper_bits(tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), (0xC8FF, 0x3C00, 0x1E80), dtype=np.uint16)
    with av.open(str(tmp_path / "image.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "rgb48be"
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
        container.mux(stream.encode(picture.reformat(format="rgb48be")))
        container.mux(stream.encode())
    with open_frames(tmp_path / "image.png") as frames:
        (frame,) = frames
    assert frame[0, 0].tolist() == [0xC8, 0x3C, 0x1E]


def test_page_names_existing_tests():
    sources = "".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/inputs.md").read_text())
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in sources] == []
