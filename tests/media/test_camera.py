"""Cameras: what is said without one, and that a camera gives its newest frame."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import av
import pytest

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading import camera, streamed_video
from qsam2_deploy.media.reading.decoder import open_video, select_stream
from qsam2_deploy.media.reading.sources import open_frames, source_from_text
from tests.support.media_samples import frame_number, write_video


def test_absent_camera(tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "_DEVICES", tmp_path)
    with pytest.raises(VideoError, match=r"there is no camera 3 .*; no camera is connected"):
        open_frames(3)
    (tmp_path / "video0").touch()
    with pytest.raises(VideoError, match="there are: 0"):
        open_frames(3)


def test_device_that_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "_DEVICES", tmp_path)
    (tmp_path / "video0").write_text("no camera")
    with pytest.raises(VideoError, match="cannot open camera 0"):
        open_frames(0)


def test_only_on_linux(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(VideoError, match="only supported on Linux"):
        open_frames(0)


def test_camera_has_no_start():
    with pytest.raises(VideoError, match="leave out the start"):
        open_frames(0, start=5)


def test_device_by_its_path(tmp_path):
    with pytest.raises(VideoError, match=r"there is no camera /dev/video987"):
        open_frames("/dev/video987")
    with pytest.raises(VideoError, match=r"cannot open camera /dev/null .* not a camera"):
        open_frames("v4l2:/dev/null")
    with pytest.raises(VideoError, match="leave out the start"):
        open_frames(Path("/dev/video987"), start=5)


def test_camera_gives_its_newest_frame(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", 10)
    gone = threading.Event()

    def opened(_device, _name):
        if path.exists():
            video = open_video(path)
            path.unlink()
            return replace(video, live=True)
        gone.set()
        raise VideoError("it was unplugged")

    monkeypatch.setattr(camera, "_open", opened)
    with open_frames(0) as frames:
        assert frames.num_frames is None
        assert gone.wait(10)
        assert frame_number(next(iter(frames))) == 9
        assert frames.warning is None  # nothing was asked for before


def test_camera_that_falls_silent_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_video, "SILENT_SECONDS", 0.2)
    data = write_video(tmp_path / "v.ts", 10, options={"tune": "zerolatency"}).read_bytes()
    device = tmp_path / "device"
    os.mkfifo(device)
    go_on = threading.Event()

    def give():
        with device.open("wb") as file:
            file.write(data)
            file.flush()
            go_on.wait(20)

    thread = threading.Thread(target=give)
    thread.start()
    options = {"analyzeduration": "100000"}
    monkeypatch.setattr(
        camera,
        "_open",
        lambda path, name: select_stream(
            av.open(str(path), container_options=options), name, live=True
        ),
    )
    silent = pytest.raises(VideoError, match=r"gave no frame for 0\.2 seconds")
    with camera.camera_stream(device) as frames, silent:
        list(frames)
    go_on.set()
    thread.join()


def test_a_bare_integer_is_a_camera_unless_it_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_from_text("0") == 0
    assert str(source_from_text("clip.mp4")) == "clip.mp4"
    (tmp_path / "7").mkdir()
    assert str(source_from_text("7")) == "7"
