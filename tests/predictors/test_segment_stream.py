"""Segmenting a live stream: Ctrl-C while nothing comes, and what stands in the results."""

import json
import signal
import threading

import pytest

from qsam2_deploy.media.reading import urls
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.tracking.results import Prompt
from tests.predictors.test_segment_video import FakeSegmenter
from tests.support.media_samples import frame_times, write_video
from tests.support.stream_servers import serve_bytes


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """Give the URL of a camera that sends ten frames and falls silent."""
    monkeypatch.setattr(urls, "ANALYZE_SECONDS", 0.1)
    data = write_video(tmp_path / "v.ts", 10, options={"tune": "zerolatency"}).read_bytes()
    never = threading.Event()
    with serve_bytes([[data, never]]) as url:
        yield url.replace("tcp://", "tcp://me:secret@")
        never.set()


def segment(url, tmp_path, on_frame, **values):
    def factory(*args, **kwargs):
        fake = FakeSegmenter(*args, **kwargs)
        fake.on_frame = on_frame
        return fake

    outputs = {"overlay": tmp_path / "out.mp4", "json_path": tmp_path / "out.json"}
    clicks = [Prompt(1, points=[(10, 10)], labels=[1])]
    return segment_video(
        url, tmp_path / "model.onnx", clicks, segmenter=factory, **outputs, **values
    )


def test_ctrl_c_ends_the_wait_for_a_stream(tmp_path, stream, caplog):
    main = threading.main_thread().ident

    def interrupt_later(index):
        if index:
            return
        threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()

    summary = segment(stream, tmp_path, interrupt_later, max_frames=1000)
    assert summary.interrupted
    assert 0 < summary.frames <= 10
    assert caplog.messages == []  # it did not break off first
    assert len(frame_times(tmp_path / "out.mp4")) == summary.frames


def test_results_hold_no_password(tmp_path, stream):
    segment(stream, tmp_path, lambda _: None, max_frames=1)
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["source"] == stream.replace("secret", "***")
    assert results["frames"][0]["time"] == 0
