"""Live streams: the newest frame, what is counted, and what happens when they break off."""

import io
import re
import threading
import time

import pytest
from PIL import Image

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading import urls
from qsam2_deploy.media.reading.frame_clock import Arrived, Pace, StreamClock
from qsam2_deploy.media.reading.handover import Handover
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.media.reading.stream_reader import Retry
from qsam2_deploy.media.reading.streamed_video import StreamedVideo
from qsam2_deploy.media.reading.urls import open_url
from tests.support.media_samples import frame_image, frame_number, write_timed_video, write_video
from tests.support.rtsp_server import serve_rtsp
from tests.support.stream_servers import serve_bytes, serve_web

IMPATIENT = Retry(attempts=2, seconds=0.01)


@pytest.fixture(autouse=True)
def short_analysis(monkeypatch):
    """What is sent here is too short for FFmpeg to be content, and it would wait for more."""
    monkeypatch.setattr(urls, "ANALYZE_SECONDS", 0.1)


@pytest.fixture
def transport_stream(tmp_path):
    """Give an MPEG transport stream of so many frames; none waits for later ones."""

    def make(frames, **options):
        options = {"tune": "zerolatency", **options}
        return write_video(tmp_path / "v.ts", frames, options=options).read_bytes()

    return make


def live(url, retry=IMPATIENT):
    return StreamedVideo(url, lambda: open_url(url), retry=retry)


def test_frames_that_came_during_the_work_are_left_out_and_counted(transport_stream):
    data = transport_stream(30)
    go = threading.Event()
    parts = [data[: len(data) // 2], go, data[len(data) // 2 :]]
    with serve_bytes([parts]) as url, live(url) as stream:
        assert stream.num_frames is None
        frames = iter(stream)
        first = frame_number(next(frames))
        go.set()
        _wait_for_the_end(stream)
        assert frame_number(next(frames)) == 29
        assert next(frames, None) is None
        sentences = stream.warning.split("; ")
    left = 29 - first - 1
    assert left > 5
    assert sentences[0] == (
        f"{left} of {left + 2} frames of {url} were left out, because tracking was slower than "
        "the stream"
    )


def test_frames_before_the_first_one_that_is_taken_are_not_missing(transport_stream):
    with serve_bytes([[transport_stream(30)]]) as url, live(url) as stream:
        _wait_for_the_end(stream)
        assert [frame_number(frame) for frame in stream] == [29]
        assert "left out" not in stream.warning


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_stream_that_breaks_off_and_comes_back_goes_on(tmp_path, transport_stream, scheme):
    data = transport_stream(10)
    with serve_web(tmp_path) as web, serve_bytes([[data]] * 5) as url:
        web.answers["/camera"] = lambda request: request.send(data)
        url = url if scheme == "tcp" else f"{web.url}/camera"
        with live(url) as stream:
            frames = iter(stream)
            while "broke off" not in (stream.warning or ""):
                assert next(frames) is not None
    assert re.search(rf"{url} broke off \S.*, and was away for \d+\.\d seconds", stream.warning)


def test_stream_that_does_not_come_back_ends_with_a_sentence(transport_stream, caplog):
    with serve_bytes([[transport_stream(10)]]) as url, live(url) as stream:
        assert frame_number(list(stream)[-1]) == 9
        assert f"{url} broke off, and did not come back in 2 attempts within 0." in stream.warning
        assert "Connection refused" in stream.warning
    assert caplog.messages == [f"{url} broke off (it ended); trying again"]


def test_stream_that_falls_silent_has_broken_off(transport_stream, monkeypatch):
    monkeypatch.setattr(urls, "READ_SECONDS", 0.2)
    never = threading.Event()
    with serve_bytes([[transport_stream(10), never]]) as url, live(url) as stream:
        assert list(stream)
        never.set()
    assert "did not come back in 2 attempts" in stream.warning


def test_size_that_changes_after_a_break_is_named(tmp_path):
    small = write_video(tmp_path / "a.ts", 5).read_bytes()
    large = write_video(tmp_path / "b.ts", 5, height=96, width=128).read_bytes()
    changed = pytest.raises(VideoError, match=r"frame \d of tcp.* is 128x96 pixels, but .* 64x48")
    with serve_bytes([[small], [large]]) as url, live(url) as stream, changed:
        list(stream)


def test_waiting_for_a_frame_ends_when_it_is_stopped(transport_stream):
    never = threading.Event()
    with serve_bytes([[transport_stream(10), never]]) as url, live(url) as stream:
        threading.Timer(0.2, stream.stop).start()
        assert len(list(stream)) <= 10
        never.set()


def test_stream_that_ends_without_a_picture(transport_stream):
    data = transport_stream(10)
    with serve_bytes([[data[:700]]] * 5) as url, pytest.raises(VideoError, match="tcp://"):
        StreamedVideo(url, lambda: open_url(url), retry=Retry(seconds=60))


def test_stream_without_a_picture_is_given_up(transport_stream):
    never = threading.Event()
    data = transport_stream(10)
    with serve_bytes([[data[:1000], never]]) as url:
        with pytest.raises(VideoError, match=r"gave no picture within 0\.2 seconds"):
            StreamedVideo(url, lambda: open_url(url), patience=0.2)
        never.set()


def test_live_stream_has_no_start(transport_stream):
    refused = pytest.raises(VideoError, match=r"is live, .* leave out the start")
    with serve_bytes([[transport_stream(10)]]) as url, refused:
        open_frames(url, start=3)


def test_times_are_those_of_the_stream(tmp_path):
    times = [0, 0.5, 1, 3, 3.5]
    data = write_timed_video(tmp_path / "v.ts", times).read_bytes()
    with serve_bytes([[data]]) as url, live(url) as stream:
        seen = [(frame_number(frame), stream.shown.time) for frame in stream]
    first = times[seen[0][0]]
    assert [time for _, time in seen] == pytest.approx([times[n] - first for n, _ in seen])


def test_camera_of_jpeg_pictures_over_http(tmp_path):
    go = threading.Event()

    def picture(index):
        data = io.BytesIO()
        Image.fromarray(frame_image(index)).save(data, "JPEG")
        head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
        return head.encode() + data.getvalue() + b"\r\n"

    def answer(request):
        request.send(picture(0), **{"Content-Type": "multipart/x-mixed-replace; boundary=x"})
        for index in range(1, 9):
            request.wfile.write(picture(index))
            if index == 7:
                time.sleep(0.5)
        go.wait(20)

    with serve_web(tmp_path) as web:
        web.answers["/"] = answer
        with live(f"{web.url}/") as stream:
            for frame in stream:
                if frame_number(frame) == 8:
                    break
            assert stream.shown.time > 0.45  # of the clock: there are none in the stream
        go.set()


def test_camera_over_rtsp(transport_stream):
    with serve_rtsp(transport_stream(20)) as url, live(url) as stream:
        assert 0 <= frame_number(next(iter(stream))) < 20


# ------------------------------------------------------------------ its parts
def test_newest_item_is_taken_and_the_others_are_counted():
    handover = Handover()
    handover.newest = True
    for item in range(3):
        assert handover.put(item)
    assert handover.peek(0) == 2
    assert handover.take() == 2
    assert handover.left_out == 0
    for item in range(3, 7):
        handover.put(item)
    assert handover.take() == 6
    assert handover.left_out == 3
    handover.put(7)
    handover.end(VideoError("it is over"))
    assert handover.take() == 7
    with pytest.raises(VideoError, match="it is over"):
        handover.take()


def test_every_item_waits_for_its_turn():
    handover = Handover()
    thread = threading.Thread(target=lambda: [handover.put(i) for i in range(5)] + [handover.end()])
    thread.start()
    assert list(iter(handover.take, None)) == [0, 1, 2, 3, 4]
    assert handover.left_out == 0
    thread.join()


def test_stopping_ends_both_sides():
    handover = Handover()
    handover.put(1)
    threading.Timer(0.05, handover.stop).start()
    assert not handover.put(2)
    assert handover.take() is None
    assert not handover.pause(20)


def test_clock_goes_on_over_breaks_and_wrong_times():
    clock = StreamClock()
    came = [
        (100.0, 7.0, 0),  # the first frame is at 0
        (100.6, 7.5, 0),  # the stream's distance counts
        (101.0, 3.0, 0),  # times that go back: the time that has passed
        (101.4, 3.5, 0),
        (105.4, 3.6, 1),  # after a break
        (105.5, 3.9, 1),
        (105.6, 99.0, 1),  # far ahead
        (105.8, None, 1),
    ]
    shown = [clock.shown(Arrived(None, *item)) for item in came]
    assert shown == pytest.approx([0, 0.5, 0.9, 1.4, 5.4, 5.7, 5.8, 6.0])


def test_frames_that_come_at_once_are_spread():
    pace = Pace()
    assert pace.wait(5.0, 100.0) == 0
    assert pace.wait(5.5, 100.0) == pytest.approx(0.5)
    assert pace.wait(6.0, 100.9) == pytest.approx(0.1)
    assert pace.wait(6.5, 109.0) == 0  # late
    assert pace.wait(900.0, 109.0) == 0  # another clock
    assert pace.wait(901.0, 109.0) == pytest.approx(1.0)


def _wait_for_the_end(stream):
    stream._reader._thread.join(20)
    assert not stream._reader._thread.is_alive()
