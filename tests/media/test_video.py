"""Frames of video files, in order and by number."""

import random
import warnings

import numpy as np
import pytest

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading.sources import open_frames, open_indexed
from qsam2_deploy.media.reading.video_index import index_video
from tests.support.media_samples import (
    HEIGHT,
    OPEN_GOP,
    REORDERED,
    WIDTH,
    decode_all,
    frame_number,
    write_cut_video,
    write_sound,
    write_sound_with_cover,
    write_video,
)

VIDEOS = {
    "reordered.mp4": {"options": REORDERED},
    "open_gop.mp4": {"options": OPEN_GOP},
    "reordered.mkv": {"options": REORDERED},
    "reordered.avi": {"options": REORDERED},
    "raw.h264": {"options": REORDERED},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime"}},
    "one_keyframe.mp4": {"options": {"g": "250"}},
}


@pytest.fixture(params=VIDEOS)
def video(request, tmp_path):
    return write_video(tmp_path / request.param, 40, **VIDEOS[request.param])


def test_in_order(video):
    expected = decode_all(video)
    with open_frames(video) as frames:
        assert (frames.width, frames.height, frames.num_frames) == (WIDTH, HEIGHT, 40)
        assert frames.fps == pytest.approx(25)
        got = list(frames)
        again = list(frames)
    assert [frame_number(f) for f in got] == list(range(40))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(again, expected)
    assert frames.warning is None


@pytest.mark.parametrize("capacity", [1, 4])
def test_by_number_equals_in_order(video, capacity):
    expected = decode_all(video)
    orders = {
        "forward": list(range(40)),
        "backward": list(range(39, -1, -1)),
        "random": random.Random(0).choices(range(40), k=40),
    }
    with open_indexed(video, cache_frames=capacity) as indexed:
        assert len(indexed) == 40
        for name, order in orders.items():
            for i in order:
                np.testing.assert_array_equal(indexed[i], expected[i], err_msg=f"{name} {i}")
        assert len(indexed._cache) <= capacity
        assert indexed.warning is None


def test_index_is_found_without_decoding(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", 40, options=REORDERED)
    monkeypatch.setattr(
        "qsam2_deploy.media.reading.video_index.Decoder",
        lambda _video: pytest.fail("this file needs no decoding"),
    )
    index = index_video(path)
    assert index.length == 40
    assert index.keyframes == (0, 12, 24, 36)
    assert index.pts == tuple(range(0, 40 * 512, 512))
    assert [index.keyframe_before(i) for i in (0, 11, 12, 39)] == [0, 0, 12, 36]


def test_reading_backwards_decodes_each_group_few_times(tmp_path, monkeypatch):
    import qsam2_deploy.media.reading.indexed_video as module

    path = write_video(tmp_path / "v.mp4", 36, options=REORDERED)
    decoded = []
    real = module.rgb_from_frame
    monkeypatch.setattr(module, "rgb_from_frame", lambda *a: decoded.append(1) or real(*a))
    with open_indexed(path, cache_frames=16) as indexed:
        for i in range(35, -1, -1):
            assert frame_number(indexed[i]) == i
    assert len(decoded) < 2 * 36


def test_start_keeps_the_numbers_of_the_source(tmp_path):
    path = write_video(tmp_path / "v.mp4", 20)
    with open_frames(path, start=15) as frames:
        assert (frames.start, frames.num_frames) == (15, 20)
        assert [frame_number(f) for f in frames] == [15, 16, 17, 18, 19]
    with pytest.raises(VideoError, match="has 20 frames, numbered from 0 to 19"):
        open_frames(path, start=20)
    with pytest.raises(VideoError, match="begin at 0"):
        open_frames(path, start=-1)


@pytest.mark.parametrize(("rotation", "quarters"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_in_the_file_is_honoured(tmp_path, rotation, quarters):
    upright = decode_all(write_video(tmp_path / "plain.mp4", 3))
    path = write_video(tmp_path / "turned.mp4", 3, rotation=rotation)
    with open_frames(path) as frames:
        got = list(frames)
        assert (frames.height, frames.width) == got[0].shape[:2]
    np.testing.assert_array_equal(got[1], np.rot90(upright[1], quarters))
    with open_indexed(path) as indexed:
        np.testing.assert_array_equal(indexed[2], np.rot90(upright[2], quarters))


def test_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = write_cut_video(tmp_path / "cut.mp4", 60)
    with open_frames(path) as frames:
        assert frames.num_frames == 60
        got = list(frames)
    assert 20 < len(got) < 60
    assert [frame_number(f) for f in got[:20]] == list(range(20))
    assert frames.warning == f"{path} is damaged: {len(got)} of 60 frames were decoded"
    with open_indexed(path) as indexed:
        assert 20 < len(indexed) < 60
        np.testing.assert_array_equal(indexed[19], got[19])
        assert indexed[len(indexed) - 1].shape == (HEIGHT, WIDTH, 3)
        assert f"{len(indexed)} of 60 frames" in (indexed.warning or "") or "stands in" in (
            indexed.warning or ""
        )


def test_matroska_that_breaks_off_is_noticed(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", 60, rate=10, options=REORDERED)
    path = tmp_path / "cut.mkv"
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_frames(path) as frames:
        got = list(frames)
    assert 10 < len(got) < 50
    assert frames.warning is not None
    assert str(len(got)) in frames.warning


def test_damage_in_the_middle_does_not_end_the_video(tmp_path):
    path = write_video(tmp_path / "v.mp4", 48, options=REORDERED)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    with open_frames(path) as frames:
        numbers = [frame_number(f) for f in frames]
    assert numbers[-1] == 47
    with open_indexed(path) as indexed:
        assert len(indexed) == 48
        assert frame_number(indexed[47]) == 47
        for i in range(47, -1, -1):
            assert indexed[i].shape == (HEIGHT, WIDTH, 3)


def test_size_change_names_the_frame(tmp_path):
    first = write_video(tmp_path / "a.h264", 5)
    second = write_video(tmp_path / "b.h264", 5, height=32, width=32)
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    message = "frame 5 of .* is 32x32 pixels, but .* 64x48"
    with open_frames(path) as frames, pytest.raises(VideoError, match=message):
        list(frames)
    with open_indexed(path) as indexed, pytest.raises(VideoError, match=message):
        indexed[5]


@pytest.mark.parametrize("opener", [open_frames, open_indexed])
class TestNoVideo:
    def test_absent(self, tmp_path, opener):
        with pytest.raises(VideoError, match=r"there is no file .*none\.mp4"):
            opener(tmp_path / "none.mp4")

    @pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "notes"])
    def test_text(self, tmp_path, opener, name):
        path = tmp_path / name
        path.write_text("this is no video\n" * 200)
        with pytest.raises(VideoError, match="video"):
            opener(path)

    def test_empty(self, tmp_path, opener):
        path = tmp_path / "empty.mp4"
        path.touch()
        with pytest.raises(VideoError, match=r"cannot read .*empty\.mp4 as a video"):
            opener(path)

    def test_sound_only(self, tmp_path, opener):
        with pytest.raises(VideoError, match="it holds sound only"):
            opener(write_sound(tmp_path / "sound.wav"))

    def test_sound_with_a_cover(self, tmp_path, opener):
        with pytest.raises(VideoError, match="it holds sound only"):
            opener(write_sound_with_cover(tmp_path / "sound.aac"))

    def test_cut_before_its_index(self, tmp_path, opener):
        whole = write_video(tmp_path / "whole.mp4", 30)
        path = tmp_path / "cut.mp4"
        data = whole.read_bytes()
        path.write_bytes(data[: data.index(b"moov") - 20])
        with pytest.raises(VideoError, match="cut off before its index"):
            opener(path)

    def test_no_frame_decodes(self, tmp_path, opener):
        path = write_video(tmp_path / "v.mp4", 3)
        data = bytearray(path.read_bytes())
        start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
        data[start:end] = bytes(end - start)
        path.write_bytes(data)
        with pytest.raises(VideoError, match="decoded"):
            opener(path)


def test_name_with_colon_and_percent(tmp_path):
    path = write_video(tmp_path / "http:50%d.mp4", 3)
    with open_frames(path) as frames:
        assert len(list(frames)) == 3


def test_missing_pyav_is_said(tmp_path, monkeypatch):
    import sys

    from qsam2_deploy.errors import MissingDependencyError

    path = tmp_path / "v.mp4"
    path.touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[video\]'"):
        open_frames(path)


def test_files_are_closed(tmp_path):
    path = write_video(tmp_path / "v.mp4", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_frames(path) as frames:
            next(iter(frames))
        with open_indexed(path) as indexed:
            indexed[1]
        frames.close()
