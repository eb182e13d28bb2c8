"""Frames from image files."""

import sys

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import MissingDependencyError, VideoError
from qsam2_deploy.media.reading.arrays import ArrayFrames
from qsam2_deploy.media.reading.image_lists import list_frames, match_frames
from qsam2_deploy.media.reading.sources import open_frames, open_indexed
from tests.support.media_samples import HEIGHT, WIDTH, frame_image, frame_number, write_folder

AVIF = ".avif" in Image.registered_extensions()


def test_folder_is_sorted_by_number_not_by_text(tmp_path):
    names = ["0.jpg", "1.jpg", "2.JPG", "10.jpeg", "00011.jpg", "100.jpg"]
    folder = write_folder(tmp_path / "f", names)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.jpg").write_text("no frame")
    assert [p.name for p in list_frames(folder).files] == names
    with open_frames(folder) as frames:
        assert (frames.width, frames.height, frames.num_frames) == (WIDTH, HEIGHT, 6)
        assert [frame_number(f) for f in frames] == list(range(6))


def test_other_names_are_sorted_naturally(tmp_path):
    names = ["shot1.png", "shot2.png", "shot10.png"]
    folder = write_folder(tmp_path / "f", names)
    assert [p.name for p in list_frames(folder).files] == names


def test_jpeg_frames_win_over_png_masks(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "0.jpg"])
    found = list_frames(folder)
    assert [p.name for p in found.files] == ["0.jpg"]
    assert found.warning.startswith(f"1 of 2 files of {folder} are left out (0.png): ")


def test_unnumbered_picture_beside_numbered_frames_is_left_out(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.jpg", "1.jpg", "mask.png"])
    with open_frames(folder) as frames:
        assert len(list(frames)) == 2
        assert "1 of 3 files" in frames.warning


def test_mixed_types_are_all_frames_in_natural_order(tmp_path):
    names = ["1.jpg", "2.png", "3.webp", "4.JPEG", "10.bmp", "11.tif"]
    folder = write_folder(tmp_path / "f", names)
    with open_frames(folder) as frames:
        assert [frame_number(f) for f in frames] == list(range(6))
        assert frames.warning is None
    with open_indexed(folder, official=True) as indexed:
        assert len(indexed) == 2
        assert "4 of 6 files" in indexed.warning


def test_equal_names_of_jpeg_types_are_two_frames(tmp_path):
    folder = write_folder(tmp_path / "f", ["1.JPG", "1.jpg", "2.jpg"])
    assert len(list_frames(folder).files) == 3


@pytest.mark.parametrize("pattern", ["*.png", "shot_%d.png", "shot_[0-9]*", "../*/shot*.png"])
def test_pattern(tmp_path, pattern):
    names = [f"shot_{i}.png" for i in (1, 2, 10)]
    folder = write_folder(tmp_path / "f", names)
    (folder / "shot_.txt").write_text("no frame")
    with open_frames(folder / pattern) as frames:
        assert [frame_number(f) for f in frames] == [0, 1, 2]
        assert frames.warning is None
    with open_indexed(str(folder / pattern)) as indexed:
        assert len(indexed) == 3


def test_pattern_of_digits_takes_their_number(tmp_path):
    folder = write_folder(tmp_path / "f", ["001.png", "002.png", "1000.png", "03.png", "a004.png"])
    assert [p.name for p in match_frames(folder / "%03d.png").files] == [
        "001.png", "002.png", "1000.png",
    ]  # fmt: skip


def test_pattern_tells_what_is_no_image(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png"])
    (folder / "1.txt").write_text("no frame")
    assert "1 of 2 files" in match_frames(folder / "*").warning
    with pytest.raises(
        VideoError, match=r"no image matches it as a pattern; the 1 files that do are no images"
    ):
        match_frames(folder / "*.txt")
    for pattern in ("none/*.png", "none/%d.png", "%d.jpg"):
        with pytest.raises(VideoError, match=r"no image matches|cannot read the folder"):
            open_frames(folder / pattern)


def test_file_whose_name_looks_like_a_pattern(tmp_path):
    folder = write_folder(tmp_path / "f", ["a[1].png", "b%d.png", "a1.png"])
    for index, name in enumerate(["a[1].png", "b%d.png"]):
        with open_frames(folder / name) as frames:
            assert [frame_number(f) for f in frames] == [index]


@pytest.mark.parametrize("suffix", ["webp", "png", "gif", *(["avif"] if AVIF else [])])
def test_animated_image_is_a_video_of_all_its_frames(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    images = [Image.fromarray(frame_image(i)) for i in range(6)]
    times = [100, 200, 100, 100, 50, 100]
    lossless = {"lossless": True} if suffix == "webp" else {}
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=times, loop=0, **lossless
    )
    with open_frames(path) as frames:
        assert frames.num_frames == 6
        assert [frame_number(f) for f in frames] == list(range(6))
    with open_frames(path, start=4) as frames:
        assert [frame_number(f) for f in frames] == [4, 5]
    with open_indexed(path) as indexed:
        for i in (5, 0, 3, -1):
            assert frame_number(indexed[i]) == i % 6


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
def test_avif_images_are_frames(tmp_path):
    write_folder(tmp_path, ["0.avif", "1.avif", "2.png"])
    with open_frames(tmp_path) as frames:
        assert [frame_number(f) for f in frames] == [0, 1, 2]
    with open_frames(tmp_path / "1.avif") as frames:
        assert [frame_number(f) for f in frames] == [1]


@pytest.mark.parametrize("suffix", ["avif", "avifs"])
def test_avif_without_a_pillow_that_reads_it(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(Image, "EXTENSION", {})
    with pytest.raises(VideoError, match=r"reads no AVIF; run: pip install 'pillow>=11\.3'"):
        open_frames(tmp_path / f"image.{suffix}")


def test_heic_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "EXTENSION", {})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingDependencyError, match="run: pip install pillow-heif"):
        open_frames(tmp_path / "image.heic")


def test_heic_images_are_frames(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    write_folder(tmp_path, ["0.heic", "1.jpg"])
    with open_frames(tmp_path) as frames:
        assert [frame_number(f) for f in frames] == [0, 1]


def test_still_picture_of_an_animated_png_is_no_frame(tmp_path):
    images = [Image.fromarray(frame_image(i)) for i in range(4)]
    path = tmp_path / "moving.png"
    images[0].save(path, save_all=True, append_images=images[1:], default_image=True, duration=40)
    with open_frames(path) as frames:
        assert [frame_number(f) for f in frames] == [1, 2, 3]


def test_animated_image_that_breaks_off(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    images = [Image.fromarray(image) for image in noise]
    path = tmp_path / "moving.png"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_frames(path) as frames, pytest.raises(VideoError, match=r"frame \d of .* decoded"):
        list(frames)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_keeps_its_upper_bits(tmp_path, suffix):
    grey = (np.arange(HEIGHT * WIDTH, dtype=np.uint16) * 21).reshape(HEIGHT, WIDTH)
    Image.fromarray(grey).save(tmp_path / f"g.{suffix}")
    with open_frames(tmp_path / f"g.{suffix}") as frames:
        (frame,) = frames
    np.testing.assert_array_equal(frame, np.stack([grey >> 8] * 3, axis=2))


def test_floating_point_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 6), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(VideoError, match=r"f.tif as a frame: .* 8 or 16 bits; save it as an 8"):
        open_frames(tmp_path / "f.tif")


def test_arrays_are_frames():
    images = np.stack([frame_image(i) for i in range(3)])
    for given in (images, list(images), [Image.fromarray(image) for image in images]):
        frames = ArrayFrames(given)
        assert (frames.width, frames.height, len(frames)) == (WIDTH, HEIGHT, 3)
        np.testing.assert_array_equal(frames[-1], images[2])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "the list is empty"),
        (None, "must be a path, or a list .* is of type NoneType"),
        ((frame_image(i) for i in range(2)), "must be a path, or a list .* is of type generator"),
        ([np.zeros((4, 6, 3))], r"frame 0 .* is float64 of shape \[4, 6, 3\]"),
        ([np.zeros((4, 6), dtype=np.uint8)], r"must be uint8 RGB .* shape \[4, 6\]"),
        ([frame_image(0), frame_image(1, 20, 30)], "frame 1 of the list is 30x20 pixels"),
    ],
)
def test_arrays_that_are_no_frames(frames, message):
    with pytest.raises(VideoError, match=message):
        ArrayFrames(frames)


def test_png_frames_are_exact_in_order_and_by_number(tmp_path):
    folder = write_folder(tmp_path / "f", [f"{i}.png" for i in range(5)])
    with open_frames(folder, start=2) as frames:
        got = list(frames)
    assert len(got) == 3
    np.testing.assert_array_equal(got[0], frame_image(2))
    with open_indexed(folder) as indexed:
        assert len(indexed) == 5
        np.testing.assert_array_equal(indexed[4], frame_image(4))
        np.testing.assert_array_equal(indexed[-5], frame_image(0))
        with pytest.raises(IndexError, match="no frame 5"):
            indexed[5]


def test_one_image_is_one_frame(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(frame_image(7)).save(path)
    with open_frames(path) as frames:
        got = list(frames)
    assert [frame_number(f) for f in got] == [7]


def test_orientation_tag_is_honoured(tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it clockwise by 90 degrees
    Image.fromarray(frame_image(0)).save(path, exif=exif)
    with open_frames(path) as frames:
        assert (frames.width, frames.height) == (HEIGHT, WIDTH)
    with open_frames(path, ignore_orientation=True) as frames:
        assert (frames.width, frames.height) == (WIDTH, HEIGHT)


def test_random_access_keeps_few_frames(tmp_path):
    folder = write_folder(tmp_path / "f", [f"{i}.png" for i in range(8)])
    with open_indexed(folder, cache_frames=3) as indexed:
        for i in range(8):
            indexed[i]
        assert len(indexed._cache) == 3


def test_frame_of_another_size_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    Image.fromarray(frame_image(0, 30, 20)).save(folder / "2.png")
    message = r"frame 2 \(2.png\).* is 20x30 .* are 64x48"
    with open_frames(folder) as frames, pytest.raises(VideoError, match=message):
        list(frames)
    with open_indexed(folder) as indexed, pytest.raises(VideoError, match=message):
        indexed[2]


def test_folder_without_frames(tmp_path):
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(VideoError, match="holds no frames; expected images such"):
        open_frames(tmp_path)


def test_damaged_image_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    with open_frames(folder) as frames, pytest.raises(VideoError, match=r"1\.png as an image"):
        list(frames)


def test_start_past_the_end(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    with pytest.raises(VideoError, match="has 2 frames, numbered from 0 to 1"):
        open_frames(folder, start=2)
