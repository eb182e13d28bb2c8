"""Frames of any format become the same RGB bytes on every processor."""

from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy._common.rgb import RgbDecoder, RgbEncoder

av = pytest.importorskip("av")

BT709, BT601, SMPTE240M, BT2020, UNKNOWN = 1, 5, 7, 9, 2
LIMITED, FULL = 1, 2
LUMA_OF_RED_AND_BLUE = {
    BT709: (0.2126, 0.0722),
    BT601: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
    UNKNOWN: (0.299, 0.114),
}
CLIP = Path(__file__).parents[2] / "assets" / "demo_clip.mp4"

# Found equal on x86 (AVX2, SSE4.2) and Arm.
DIGESTS = {
    ("yuv420p", 48, 64): "6dd0771f75ad83ee",
    ("yuv420p", 48, 64, 5, 2): "33b932c4f312e0a6",
    ("yuv420p", 48, 65): "f742753d8ec8822c",
    ("yuv420p", 47, 66): "bf73cfefe470abc1",
    ("yuvj420p", 48, 64, 5, 2): "33b932c4f312e0a6",
    ("yuv422p", 48, 64): "155fa10deece1014",
    ("yuv444p", 48, 64): "d41439c09229ab31",
    ("yuv420p10le", 48, 64): "8d2a23414fbc4a3e",
    ("yuv420p10le", 48, 64, 9, 1): "638256e36ba0802c",
    ("yuv444p10le", 48, 64): "479cd82f1e6325a6",
    ("yuv422p10le", 48, 65): "e0a90645c3e6300e",
    ("nv12", 48, 64): "59aeefd6013931f6",
    ("p010le", 48, 64): "f5112779d57291ed",
    ("gray", 48, 64): "303091ac14508db2",
    ("gbrp", 48, 64, 0, 2): "744049c39bf8a91d",
}
YUV_DIGEST = "6a905a38f5c3910e"
RESIZED_DIGEST = "3b4fe1e8c0dafc38"
CLIP_DIGEST = "d16ae2f7f2a8c69f"


def drawn_frame(pixel_format, height, width, colorspace=BT709, color_range=LIMITED):
    """Return a frame whose planes hold a formula in integers."""
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    for i, plane in enumerate(frame.planes):
        rows = plane.buffer_size // plane.line_size
        y, x = np.mgrid[:rows, : plane.line_size // (2 if bits > 8 else 1)]
        values = (y * y * 7 + x * 13 + x * y // 3 + i * 91 + x * x // 5) % (1 << bits)
        plane.update(values.astype("<u2" if bits > 8 else "u1").tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def plain_frame(rgb, pixel_format, colorspace, color_range):
    """Return a frame of one colour, by the definition of its matrix and range."""
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = LUMA_OF_RED_AND_BLUE[colorspace]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    frame = av.VideoFrame(64, 32, pixel_format)
    bits = frame.format.components[0].bits
    full = color_range == FULL
    top = (1 << bits) - 1 if full else 255 << (bits - 8)
    base, gain, swing = (0, 255, 255) if full else (16, 219, 224)
    values = [luma * gain + base, *(c * swing + (127.5 if full else 128) for c in chroma)]
    for plane, value in zip(frame.planes, values, strict=True):
        number = np.full(plane.buffer_size // (1 + (bits > 8)), round(value * top / 255))
        plane.update(number.astype("<u2" if bits > 8 else "u1").tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def digest(array):
    return sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("case", "expected"), DIGESTS.items(), ids=str)
def test_known_bytes(case, expected):
    rgb = RgbDecoder()(drawn_frame(*case))
    assert rgb.shape == (*case[1:3], 3)
    assert digest(rgb) == expected


def test_known_bytes_of_a_resized_frame():
    rgb = RgbDecoder()(drawn_frame("yuv420p", 48, 64), (36, 80))
    assert rgb.shape == (36, 80, 3)
    assert digest(rgb) == RESIZED_DIGEST


def test_known_bytes_for_an_encoder():
    y, x = np.mgrid[:48, :64]
    image = np.stack([y * 7 + x * x // 3, x * 5 + y * y // 2, x * y], axis=-1).astype(np.uint8)
    frame = RgbEncoder()(image)
    assert (frame.format.name, frame.pts) == ("yuv420p", None)
    assert digest(frame.to_ndarray()) == YUV_DIGEST


def test_known_bytes_of_the_demo_clip():
    to_rgb = RgbDecoder()
    with av.open(str(CLIP)) as container:
        frames = [to_rgb(frame) for frame in islice(container.decode(video=0), 8)]
    assert digest(np.stack(frames)) == CLIP_DIGEST


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("colorspace", LUMA_OF_RED_AND_BLUE)
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("colour", [(200, 60, 30), (20, 220, 90), (10, 30, 240), (255, 255, 255)])
def test_matrix_and_range_are_honoured(pixel_format, colorspace, color_range, colour):
    rgb = RgbDecoder()(plain_frame(colour, pixel_format, colorspace, color_range))
    assert np.abs(rgb.astype(int) - colour).max() <= 3


def test_formats_of_full_range_need_not_say_so():
    frame = plain_frame((200, 60, 30), "yuvj420p", BT601, FULL)
    frame.color_range = 0
    assert np.abs(RgbDecoder()(frame).astype(int) - (200, 60, 30)).max() <= 3


def test_one_decoder_follows_changes():
    to_rgb = RgbDecoder()
    cases = [("yuv420p", 48, 64), ("yuv420p", 48, 64, BT601), ("yuv420p", 48, 64, BT601, FULL)]
    cases += [("yuv444p", 48, 64), ("yuv420p", 24, 64), ("yuv420p", 48, 64)]
    for case in cases:
        frame = drawn_frame(*case)
        np.testing.assert_array_equal(to_rgb(frame), RgbDecoder()(frame))


def test_frames_do_not_share_memory():
    to_rgb = RgbDecoder()
    first = to_rgb(drawn_frame("yuv420p", 48, 64))
    kept = first.copy()
    to_rgb(plain_frame((200, 60, 30), "yuv420p", BT709, LIMITED))
    to_rgb(drawn_frame("yuv420p", 48, 64, BT601))
    np.testing.assert_array_equal(first, kept)


def test_encoder_and_decoder_are_inverse():
    colour = np.full((32, 48, 3), (200, 60, 30), np.uint8)
    frame = RgbEncoder()(colour)
    frame.colorspace, frame.color_range = BT709, LIMITED
    assert np.abs(RgbDecoder()(frame).astype(int) - colour).max() <= 3
