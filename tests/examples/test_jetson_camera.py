"""The parts of the camera example, with doubles of OpenCV and of cameras; no display is needed."""

from __future__ import annotations

import http.client
import io
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError, PromptError, VideoError
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.tracking.results import FrameResult
from tests.predictors.fake_backend import FakeBackend
from tests.support.media_samples import HEIGHT, WIDTH, frame_image, frame_number, write_video


class FakeCapture:
    """What cv2.VideoCapture is for a pipeline: BGR frames, then nothing."""

    def __init__(self, frames: int) -> None:
        self.left, self.released = list(range(frames)), False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.left:
            return False, None
        return True, frame_image(self.left.pop(0))[..., ::-1]

    def get(self, _property: int) -> float:
        return 30.0

    def release(self) -> None:
        self.released = True


class FakeOpenCv(SimpleNamespace):
    """The names of cv2 that the example uses, with a script of keys and mouse events."""

    CAP_GSTREAMER, CAP_PROP_FPS, WINDOW_NORMAL = 1800, 5, 0
    EVENT_LBUTTONDOWN, EVENT_RBUTTONDOWN, EVENT_LBUTTONUP = 1, 2, 4
    __version__ = "4.8.0"
    error = type("error", (Exception,), {})

    def __init__(self, frames: int = 0, script: tuple[object, ...] = ()) -> None:
        super().__init__(capture=FakeCapture(frames), script=list(script), shown=[], pipelines=[])
        self.gstreamer, self.gui, self.mouse = "YES (1.20.3)", True, None

    def getBuildInformation(self) -> str:  # noqa: N802
        return f"  Video I/O:\n    GStreamer:                   {self.gstreamer}\n"

    def VideoCapture(self, pipeline: str, api: int) -> FakeCapture:  # noqa: N802
        assert api == self.CAP_GSTREAMER
        self.pipelines.append(pipeline)
        return self.capture

    def namedWindow(self, *_: object) -> None:  # noqa: N802
        if not self.gui:
            raise self.error("The function is not implemented.")

    def setMouseCallback(self, _title: str, callback: Callable[..., None]) -> None:  # noqa: N802
        self.mouse = callback

    def imshow(self, _title: str, picture: np.ndarray) -> None:
        assert picture.flags.c_contiguous
        self.shown.append(picture)

    def waitKey(self, _milliseconds: int) -> int:  # noqa: N802
        action = self.script.pop(0) if self.script else -1
        if isinstance(action, int):
            return action
        for event in action:
            self.mouse(*event, 0, None)
        return -1

    def circle(self, *_: object) -> None: ...
    def rectangle(self, *_: object) -> None: ...
    def destroyAllWindows(self) -> None: ...  # noqa: N802


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")


@pytest.fixture
def camera(load, monkeypatch: pytest.MonkeyPatch):
    """The example, on a backend that needs no model."""
    module = load("jetson_camera")
    real = module.VideoSegmenter
    monkeypatch.setattr(module, "VideoSegmenter", lambda *_, **__: real(FakeBackend()))
    return module


# ------------------------------------------------------------------ frames of a pipeline
def test_frames_of_a_pipeline_are_rgb_and_in_order(load):
    cv2 = FakeOpenCv(frames=4)
    with load("_gstreamer").GStreamerFrames("c", "a ! appsink", cv2) as frames:
        assert (frames.width, frames.height, frames.fps) == (WIDTH, HEIGHT, 30.0)
        found = list(frames)
    assert [frame_number(frame) for frame in found] == [0, 1, 2, 3]
    np.testing.assert_array_equal(found[2], frame_image(2))
    assert cv2.pipelines == ["a ! appsink"]
    assert cv2.capture.released


def test_pipeline_of_a_csi_camera(load):
    parts = load("_gstreamer").csi_pipeline(1, 1280, 720, 30, 2).split(" ! ")
    assert parts[0] == "nvarguscamerasrc sensor-id=1"
    assert "width=1280, height=720, framerate=30/1" in parts[1]
    assert parts[2] == "nvvidconv flip-method=2"
    assert parts[-2] == "video/x-raw, format=BGR"
    assert parts[-1].startswith("appsink drop=true max-buffers=1")


@pytest.mark.parametrize(
    ("frames", "gstreamer", "sentence"),
    [
        (3, "NO", "needs OpenCV with GStreamer, but this one .* as those of pip are"),
        (0, "YES", "gives no frame; is the camera connected, .* The pipeline is: a ! appsink"),
    ],
)
def test_a_pipeline_that_cannot_work_is_refused(load, frames, gstreamer, sentence):
    cv2 = FakeOpenCv(frames)
    cv2.gstreamer = gstreamer
    with pytest.raises(VideoError, match=sentence):
        load("_gstreamer").GStreamerFrames("c", "a ! appsink", cv2)
    assert cv2.capture.released == (gstreamer == "YES")


def test_an_opencv_for_another_numpy_is_told_from_an_absent_one(load, monkeypatch):
    gstreamer = load("_gstreamer")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(VideoError, match=r"nvidia-opencv, .*--system-site-packages$"):
        gstreamer.load_opencv("c")


# ------------------------------------------------------------------ the newest frame
class _Camera:
    """A camera that gives frame 0, waits, and then gives 1, 2 and 3 at once."""

    name = "camera 7"

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.done, self.error = threading.Event(), threading.Event(), error

    def __iter__(self) -> Iterator[np.ndarray]:
        yield frame_image(0)
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        for index in (1, 2, 3):
            yield frame_image(index)
        self.done.set()


def test_frames_that_came_during_the_work_are_left_out(load):
    source = _Camera()
    with load("_newest").NewestFrames(source, patience=10) as newest:
        frames = iter(newest)
        assert frame_number(next(frames)) == 0
        source.go.set()
        assert source.done.wait(10)
        assert frame_number(next(frames)) == 3
        assert next(frames, None) is None


def test_an_error_of_the_camera_comes_where_its_frames_are_used(load):
    source = _Camera(VideoError("the cable is out"))
    with load("_newest").NewestFrames(source, patience=10) as newest:
        frames = iter(newest)
        assert frame_number(next(frames)) == 0
        source.go.set()
        with pytest.raises(VideoError, match="the cable is out"):
            next(frames)


def test_a_camera_that_falls_silent_is_named(load):
    source = _Camera()
    try:
        with load("_newest").NewestFrames(source, patience=0.05) as newest:
            frames = iter(newest)
            assert frame_number(next(frames)) == 0
            with pytest.raises(VideoError, match=r"camera 7 gave no frame for 0\.05 seconds"):
                next(frames)
    finally:
        source.go.set()


# ------------------------------------------------------------------ the web page
def _get(
    address: str, path: str = "", host: str | None = None
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Ask for a path below an address; one that starts with / is that of the whole server."""
    place, _, token = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(place, timeout=10)
    headers = {} if host is None else {"Host": host}
    whole = path if path.startswith("/") else f"/{token}{path}"
    connection.request("GET", whole, headers=headers)
    return connection, connection.getresponse()


def _status(*arguments: str) -> int:
    connection, response = _get(*arguments)
    response.read()
    connection.close()
    return response.status


def test_the_page_shows_the_newest_picture(load):
    with load("_mjpeg").MjpegServer("127.0.0.1", 0) as server:
        connection, page = _get(server.address)
        assert b'src="stream"' in page.read()
        assert page.getheader("Referrer-Policy") == "no-referrer"
        connection.close()
        assert server.show(frame_image(1))
        assert server.show(frame_image(5))
        connection, stream = _get(server.address, "stream")
        assert stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
        assert _part(stream) == 5
        server.show(frame_image(9))
        assert _part(stream) == 9
        connection.close()
        assert _status(server.address, "other") == 404


def test_only_who_has_the_address_sees_the_page(load):
    module = load("_mjpeg")
    with module.MjpegServer("127.0.0.1", 0) as server, module.MjpegServer("127.0.0.1", 0) as other:
        token = server.address.rstrip("/").rpartition("/")[2]
        assert len(token) >= 22
        assert token not in other.address
        wrong = [f"/{'x' * len(token)}/stream", f"/{token[:-1]}/stream", f"/x/../{token}/stream"]
        for path in ("/", "/stream", f"/{token}", f"/{token}x/", "//", "/%00", *wrong):
            assert _status(server.address, path) == 404, path
        assert _status(server.address) == 200


def test_other_names_are_not_answered(load):
    """A site that gives its own name our address would otherwise be one with our page."""
    with load("_mjpeg").MjpegServer("127.0.0.1", 0) as server:
        for host in (
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "",
            "[::1",
            "x y",
        ):
            assert _status(server.address, "", host) == 421, host
        for host in ("localhost:8080", "LOCALHOST", "192.168.0.7:80", socket.gethostname()):
            assert _status(server.address, "", host) == 200, host


def test_a_few_clients_at_a_time(load):
    module = load("_mjpeg")
    with module.MjpegServer("127.0.0.1", 0) as server:
        server.show(frame_image(1))
        watching = [_get(server.address, "stream") for _ in range(module.CLIENTS_MAX)]
        assert _status(server.address) == 503
        for connection, stream in watching:
            assert _part(stream) == 1
            connection.close()
            stream.close()
        for _ in range(200):  # their threads notice when they write
            server.show(frame_image(2))
            if _status(server.address) == 200:
                return
            time.sleep(0.05)
    pytest.fail("nobody is let in after the others have gone")


def test_a_client_that_says_nothing_is_let_go(load, monkeypatch):
    module = load("_mjpeg")
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)
    with module.MjpegServer("127.0.0.1", 0) as server:
        place = server.address.split("/")[2].split(":")
        with socket.create_connection((place[0], int(place[1])), timeout=10) as silent:
            assert silent.recv(1) == b""


def test_who_listens_beyond_the_machine_is_told(load):
    server = load("_mjpeg").MjpegServer
    with server("127.0.0.1", 0) as private, server("0.0.0.0", 0) as public:
        assert not private.is_public
        assert public.is_public
        assert f"http://{socket.gethostname()}:" in public.address


def _part(stream: http.client.HTTPResponse) -> int:
    """Read one picture of the stream and return its number."""
    assert stream.readline() == b"--frame\r\n"
    assert stream.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(stream.readline().removeprefix(b"Content-Length: "))
    assert stream.readline() == b"\r\n"
    picture = np.asarray(Image.open(io.BytesIO(stream.read(length))))
    assert stream.readline() == b"\r\n"
    return frame_number(picture)


def test_a_port_in_use_is_named(load):
    server = load("_mjpeg").MjpegServer
    with server("127.0.0.1", 0) as first:
        port = int(first.address.split("/")[2].rpartition(":")[2])
        with pytest.raises(InputError, match=rf"cannot serve pictures on 127\.0\.0\.1:{port}"):
            server("127.0.0.1", port)


# ------------------------------------------------------------------ the window
def test_clicks_and_a_box_become_a_prompt(load, display):
    left = [(1, 5, 6), (4, 5, 6)]
    right = [(2, 7, 8)]
    drag = [(1, 30, 40), (4, 10, 20)]
    with load("_window").Window(FakeOpenCv(script=(left, right, drag, 13))) as window:
        prompt = window.ask(frame_image(0))
    assert (prompt.points, prompt.labels) == ([(5, 6), (7, 8)], [1, 0])
    assert prompt.box == (10, 20, 30, 40)


@pytest.mark.parametrize("script", [(27,), (13,)])
def test_a_window_without_marks_is_no_prompt(load, display, script):
    with (
        load("_window").Window(FakeOpenCv(script=script)) as window,
        pytest.raises(PromptError, match="nothing was marked"),
    ):
        window.ask(frame_image(0))


def test_q_ends_the_loop_and_other_keys_do_not(load, display):
    cv2 = FakeOpenCv(script=(-1, ord("x"), ord("q")))
    with load("_window").Window(cv2) as window:
        assert [window.show(frame_image(3)) for _ in range(3)] == [True, True, False]
    np.testing.assert_array_equal(cv2.shown[0], frame_image(3)[..., ::-1])


def test_an_opencv_without_windows_is_named(load, display):
    cv2 = FakeOpenCv()
    cv2.gui = False
    with pytest.raises(VideoError, match=r"opencv-python-headless .* leave out --show"):
        load("_window").Window(cv2)


# ------------------------------------------------------------------ the loop
def test_a_csi_camera_is_tracked_after_a_click_in_the_window(
    camera, load, display, monkeypatch, tmp_path, capsys
):
    cv2 = FakeOpenCv(frames=4, script=([(1, 30, 20), (4, 30, 20)], 13))
    monkeypatch.setattr(load("_gstreamer"), "load_opencv", lambda _purpose: cv2)
    monkeypatch.setattr(load("_window"), "load_opencv", lambda _purpose: cv2)
    monkeypatch.setattr(camera, "NewestFrames", _EveryFrame)
    out = tmp_path / "out.mp4"
    arguments = ["-", "csi:1", "--size", "64x48", "--show", "--out", str(out)]
    assert camera.main(arguments) == 0
    assert "width=64, height=48" in cv2.pipelines[0]
    assert "sensor-id=1" in cv2.pipelines[0]
    assert capsys.readouterr().out.splitlines()[-1].startswith("4 frames; ")
    with open_frames(out) as drawn:
        assert len(list(drawn)) == 4
    assert cv2.capture.released


class _EveryFrame:
    """In the place of NewestFrames: leaves no frame out, however slow this machine is."""

    def __init__(self, frames: object) -> None:
        self._frames = frames

    def __enter__(self) -> object:
        return self._frames

    def __exit__(self, *_: object) -> None: ...


def test_a_camera_is_read_through_its_newest_frames(camera, load, monkeypatch, capsys):
    cv2 = FakeOpenCv(frames=1)
    monkeypatch.setattr(load("_gstreamer"), "load_opencv", lambda _purpose: cv2)
    used = []
    real = camera.NewestFrames
    monkeypatch.setattr(camera, "NewestFrames", lambda f: used.append(f.name) or real(f))
    assert camera.main(["-", "gst:videotestsrc ! appsink", "--click", "30,20"]) == 0
    assert used == ["the pipeline"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 frames; ")


def test_ctrl_c_ends_the_loop_and_leaves_a_whole_video(camera, monkeypatch, tmp_path, capsys):
    video, out = write_video(tmp_path / "v.mp4", 20), tmp_path / "out.mp4"
    real = camera.draw_overlay

    def interrupted(frame: np.ndarray, result: object) -> np.ndarray:
        if result.frame_index == 2:
            signal.raise_signal(signal.SIGINT)
        return real(frame, result)

    monkeypatch.setattr(camera, "draw_overlay", interrupted)
    assert camera.main(["-", str(video), "--click", "30,20", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 frames; ")
    with open_frames(out) as drawn:
        assert len(list(drawn)) == 3


def test_prompts_for_later_frames_wait_for_them(camera, tmp_path, monkeypatch):
    video = write_video(tmp_path / "v.mp4", 4)
    seen = []
    real = camera.draw_overlay
    monkeypatch.setattr(
        camera, "draw_overlay", lambda f, r: (seen.append(len(r.objects)), real(f, r))[1]
    )
    arguments = ["-", str(video), "--click", "30,20", "--box", "2@2:5,5,40,40"]
    assert camera.main([*arguments, "--out", str(tmp_path / "o.mp4")]) == 0
    assert seen == [1, 1, 2, 2]


def test_frame_rates_are_printed_once_a_second(load, monkeypatch, capsys):
    clock = iter([0.4, 1.2, 1.2, 1.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    speed = load("jetson_camera").Speed(began=0.0)
    for index in range(3):
        speed.add(0.1, FrameResult(index))
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("frame      1:")
    assert line.endswith("1.7 frames per second, model 100.0 ms")


@pytest.mark.parametrize(
    "arguments", [["--mjpeg", "x"], ["--mjpeg", "70000"], ["--size", "big"], ["--frames", "0"]]
)
def test_malformed_options_are_refused(camera, arguments, capsys):
    assert camera.main(["-", "0", "--click", "1,1", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jetson_camera.py: error: argument {arguments[0]}: expected")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("text", "expected"), [("8080", "127.0.0.1"), ("0.0.0.0:8080", "0.0.0.0")])
def test_pictures_leave_the_machine_only_if_asked(load, text, expected):
    assert load("jetson_camera")._address(text) == (expected, 8080)
