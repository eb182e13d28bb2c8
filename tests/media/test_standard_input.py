"""Videos through a pipe: every frame, and a sentence for what cannot be read in order."""

import contextlib
import os
import pty
import threading

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading.sources import open_frames, open_indexed, source_from_text
from qsam2_deploy.predictors.segment_video import segment_video
from tests.predictors.test_segment_video import CLICK, FakeSegmenter
from tests.support.media_samples import (
    decode_all,
    frame_image,
    frame_number,
    write_large_video,
    write_timed_video,
    write_video,
)


@pytest.fixture
def pipe_in():
    """Give a function that makes bytes the standard input of this process."""
    kept = os.dup(0)

    def write(descriptor, data):
        with os.fdopen(descriptor, "wb") as file, contextlib.suppress(BrokenPipeError):
            file.write(data)

    threads = []

    def pipe(data):
        reading, writing = os.pipe()
        os.dup2(reading, 0)
        os.close(reading)
        threads.append(threading.Thread(target=write, args=(writing, data)))
        threads[-1].start()

    yield pipe
    os.dup2(kept, 0)
    os.close(kept)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", ["v.mkv", "v.ts", "v.avi", "v.webm"])
def test_every_frame_comes_through_a_pipe(tmp_path, pipe_in, name):
    codec = "libvpx" if name == "v.webm" else "libx264"
    path = write_video(tmp_path / name, 40, codec=codec)
    pipe_in(path.read_bytes())
    with open_frames("-") as frames:
        assert frames.name == "standard input"
        np.testing.assert_array_equal(list(frames), decode_all(path))
        assert frames.warning is None


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_mp4_with_its_index_in_front_comes_through_a_pipe(tmp_path, pipe_in, flags):
    path = write_large_video(tmp_path / "v.mp4", container_options={"movflags": flags})
    pipe_in(path.read_bytes())
    with open_frames("-") as frames:
        assert len(list(frames)) == 15


def test_mp4_with_its_index_at_its_end_is_named(tmp_path, pipe_in):
    pipe_in(write_large_video(tmp_path / "v.mp4").read_bytes())
    with pytest.raises(VideoError, match=r"whose index stands at its end, .* give the file itself"):
        open_frames("-")


def test_animated_webp_is_named(tmp_path, pipe_in):
    first, *others = [Image.fromarray(frame_image(i)) for i in range(3)]
    first.save(tmp_path / "v.webp", save_all=True, append_images=others)
    pipe_in((tmp_path / "v.webp").read_bytes())
    with pytest.raises(VideoError, match=r"is a WebP that FFmpeg cannot .* save it as a file"):
        open_frames("-")


def test_overlay_of_unknown_length_is_no_image(tmp_path, pipe_in):
    data = write_video(tmp_path / "v.mkv", 1).read_bytes()
    pipe_in(data)
    with pytest.raises(VideoError, match=r"there may be more than one .*--max-frames 1"):
        segment_video("-", "m", [CLICK], overlay=tmp_path / "o.png", segmenter=FakeSegmenter)
    pipe_in(data)
    segment_video(
        "-", "m", [CLICK], overlay=tmp_path / "o.png", segmenter=FakeSegmenter, max_frames=1
    )
    assert (tmp_path / "o.png").exists()


def test_part_of_what_comes_through_a_pipe(tmp_path, pipe_in):
    pipe_in(write_video(tmp_path / "v.mkv", 20).read_bytes())
    with open_frames("-", start=17) as frames:
        assert [frame_number(frame) for frame in frames] == [17, 18, 19]


def test_start_past_the_end_of_a_pipe(tmp_path, pipe_in):
    pipe_in(write_video(tmp_path / "v.mkv", 20).read_bytes())
    refused = pytest.raises(VideoError, match="cannot start at frame 20: standard input has 20")
    with open_frames("-", start=20) as frames, refused:
        list(frames)


def test_sound_through_a_pipe_is_told(tmp_path, pipe_in):
    path = write_timed_video(tmp_path / "v.mkv", [i / 25 for i in range(10)], sound=0.4)
    pipe_in(path.read_bytes())
    with open_frames("-") as frames:
        assert len(list(frames)) == 10
        assert frames.warning.startswith("the sound of standard input is left out")


def test_pipe_that_breaks_off_gives_what_it_has(tmp_path, pipe_in):
    data = write_video(tmp_path / "v.mkv", 60).read_bytes()
    pipe_in(data[: len(data) // 2])
    with open_frames("-") as frames:
        assert 10 < len(list(frames)) < 50
        assert frames.warning.startswith("standard input breaks off after")


@pytest.mark.parametrize("data", [b"", b"no video at all\n" * 20, bytes(5000)])
def test_what_is_no_video_is_one_sentence(pipe_in, data):
    pipe_in(data)
    with pytest.raises(VideoError, match=r"^cannot read standard input as a video: .* ffmpeg .*-$"):
        open_frames("-")


def test_terminal_is_no_video():
    kept = os.dup(0)
    outer, terminal = pty.openpty()
    try:
        os.dup2(terminal, 0)
        with pytest.raises(VideoError, match="is a terminal"):
            open_frames("-")
    finally:
        os.dup2(kept, 0)
        for descriptor in (kept, outer, terminal):
            os.close(descriptor)


def test_waiting_for_a_pipe_ends_when_it_is_stopped(tmp_path):
    data = write_video(tmp_path / "v.ts", 60).read_bytes()
    kept, (reading, writing) = os.dup(0), os.pipe()
    try:
        os.dup2(reading, 0)
        threading.Thread(target=os.write, args=(writing, data)).start()
        with open_frames("-") as frames:
            threading.Timer(0.2, frames.stop).start()
            assert len(list(frames)) < 60
    finally:
        os.close(writing)
        os.dup2(kept, 0)
        for descriptor in (kept, reading):
            os.close(descriptor)


def test_a_dash_is_standard_input_unless_it_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_from_text("-") == "-"
    with pytest.raises(VideoError, match="standard input cannot be read by frame number"):
        open_indexed("-")
    write_video(tmp_path / "v.mp4", 3).rename("-")
    with open_frames(source_from_text("-")) as frames:
        assert len(list(frames)) == 3
