"""Colours of a video come back in its overlay: their numbers, and what these mean.

Bounds are those of the way to RGB, which is darker by one or two of 255 in limited range, and of
the encoder.
"""

from fractions import Fraction

import av
import numpy as np
import pytest

from qsam2_deploy.media.protocols import Colours
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.media.writing.video_writer import VideoWriter
from qsam2_deploy.predictors.segment_video import segment_video
from tests.predictors.test_segment_video import CLICK, FakeSegmenter

HEIGHT, WIDTH = 48, 64
SPACES = {
    "BT.709": Colours(1, 1, 1, full_range=False),
    "BT.709 of full range": Colours(1, 1, 1, full_range=True),
    "BT.601": Colours(6, 6, 6, full_range=False),
    "PAL": Colours(5, 5, 6, full_range=False),
    "BT.601 of full range": Colours(5, 6, 6, full_range=True),
    "SMPTE 240M": Colours(7, 7, 7, full_range=False),
    "BT.2020": Colours(9, 9, 14, full_range=False),
    "PQ": Colours(9, 9, 16, full_range=False),
    "HLG": Colours(9, 9, 18, full_range=False),
    "nothing said": Colours(2, 2, 2, full_range=None),
}
RANGES = {None: 0, False: 1, True: 2}


def planes(bits):
    """Return Y, Cb and Cr with values that are colours in every space."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    luma = 90 + y + x // 2
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2]
    found = luma, 118 + x // 2, 140 - y // 2
    return [(p << (bits - 8)).astype("<u2" if bits > 8 else "u1") for p in found]


def write_video(path, colours, pixel_format="yuv420p", count=3):
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    for plane, values in zip(frame.planes, planes(10 if "10" in pixel_format else 8), strict=True):
        padded = np.zeros((values.shape[0], plane.line_size // values.itemsize), values.dtype)
        padded[:, : values.shape[1]] = values
        plane.update(padded.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = colours[:3]
        context.color_range = RANGES[colours.full_range]
        for index in range(count):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy(source, target):
    """Write the frames of a video as an overlay of nothing."""
    with (
        open_frames(source) as frames,
        VideoWriter(
            target, height=frames.height, width=frames.width, fps=25, colours=frames.colours
        ) as writer,
    ):
        for frame in frames:
            writer.write(frame, frames.shown)
    return target


def stored(path):
    """Return the planes of the first frame as they are stored, and what is said of them."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        said = int(frame.colorspace), int(context.color_primaries), int(context.color_trc)
        found = []
        for plane, step in zip(frame.planes, (1, 2, 2), strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            found.append(rows[: HEIGHT // step, : WIDTH // step].astype(int))
        return found, said, int(frame.color_range)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize("space", SPACES)
def test_colours_are_kept(tmp_path, space, name):
    source = write_video(tmp_path / "in.mkv", SPACES[space])
    target = copy(source, tmp_path / name)
    with open_frames(source) as first, open_frames(target) as second:
        differences = [np.abs(a.astype(int) - b) for a, b in zip(first, second, strict=True)]
    assert np.mean(differences) < 3
    assert np.max(differences) <= 8


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize("space", SPACES)
def test_stored_numbers_and_their_meaning_are_kept(tmp_path, space, name):
    """So every player shows untouched pixels as it shows those of the input."""
    colours = SPACES[space]
    source = write_video(tmp_path / "in.mkv", colours)
    before, said, range_ = stored(source)
    assert said == colours[:3]
    assert range_ == RANGES[colours.full_range]
    after, *meaning = stored(copy(source, tmp_path / name))
    # VP9 has no word for an unknown range, which is the limited one.
    assert meaning == [said, range_ or (1 if name == "out.webm" else 0)]
    for first, second in zip(before, after, strict=True):
        assert np.abs(first - second).mean() < 2.2


@pytest.mark.parametrize("space", ["BT.709", "BT.2020", "PQ"])
def test_ten_bits(tmp_path, space):
    source = write_video(tmp_path / "in.mkv", SPACES[space], "yuv420p10le")
    found, said, _ = stored(copy(source, tmp_path / "out.mp4"))
    assert said == SPACES[space][:3]
    for first, second in zip(planes(8), found, strict=True):
        assert np.abs(first.astype(int) - second).mean() < 2.2


def test_pictures_become_bt709(tmp_path):
    from PIL import Image

    Image.new("RGB", (WIDTH, HEIGHT), (200, 60, 30)).save(tmp_path / "0.png")
    _, said, range_ = stored(copy(tmp_path / "0.png", tmp_path / "out.mp4"))
    assert (said, range_) == ((1, 1, 1), 1)


@pytest.mark.parametrize(("space", "told"), [("PQ", True), ("HLG", True), ("BT.2020", False)])
def test_hdr_is_told(tmp_path, space, told):
    source = write_video(tmp_path / "in.mkv", SPACES[space], "yuv420p10le")
    summary = segment_video(
        source, "m.onnx", [CLICK], overlay=tmp_path / "out.mp4", segmenter=FakeSegmenter,
        show_progress=False,
    )  # fmt: skip
    assert [f"is HDR ({space})" in warning for warning in summary.warnings] == [True] * told
