"""A stream is ``track`` for each frame, to the bit, though the next frame is encoded meanwhile."""

import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import runs_concurrently
from qsam2_deploy.errors import EngineError, PromptError, VideoError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import IMAGE_ENCODER, MEMORY_ATTENTION
from qsam2_deploy.tracking.results import FrameResult, Prompt
from tests.predictors.fake_backend import Arrays, FakeBackend
from tests.predictors.stream import bank_of, click, frame, ids, mask_prompt, same
from tests.support.marks import slow

FRAMES = 12
PROMPTS: dict[int, list[Prompt]] = {
    0: [click(1), mask_prompt(2)],
    4: [click(3, 20, 4), click(3, 22, 5, clear_old_points=False)],
    7: [click(1, 12, 6)],
}


class ParallelBackend(FakeBackend):
    """A fake that lets two components run at the same time, and may fail in a chosen frame.

    Attributes:
        concurrent: see ``runs_concurrently``.
        threads: names of the threads in which each component ran.
        fail_at: number of the frame in which the encoder fails.
        on_encode: is called with the number of the frame that is encoded.
    """

    def __init__(self, concurrent: bool = True) -> None:
        super().__init__()
        self.concurrent = concurrent
        self.threads: dict[str, set[str]] = {}
        self.encoded = 0
        self.fail_at: int | None = None
        self.on_encode: Callable[[int], None] = lambda _: None

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        self.threads.setdefault(component, set()).add(threading.current_thread().name)
        if component == IMAGE_ENCODER:
            index, self.encoded = self.encoded, self.encoded + 1
            self.on_encode(index)
            if index == self.fail_at:
                raise EngineError("the encoder is broken")
        return super().run(component, inputs)


def _idle() -> bool:
    return not any(t.name.startswith("look-ahead") for t in threading.enumerate())


def _frames(count: int = FRAMES) -> Iterator[np.ndarray]:
    return (frame(index) for index in range(count))


Act = Callable[[VideoSegmenter, int], Iterable[FrameResult]]


def _refine_and_remove(segmenter: VideoSegmenter, index: int) -> Iterable[FrameResult]:
    if index in (2, 5):
        yield segmenter.refine(click(1, 6, 3, label=0))
    if index == 5:
        yield segmenter.refine(click(4, 25, 12))
    if index == 9:
        segmenter.remove(2)


def _tracked(segmenter: VideoSegmenter, act: Act) -> list[FrameResult]:
    found = []
    for index, image in enumerate(_frames()):
        found.append(segmenter.track(image, PROMPTS.get(index, ())))
        found += act(segmenter, index)
    return found


def _streamed(segmenter: VideoSegmenter, act: Act) -> list[FrameResult]:
    found = []
    for index, result in enumerate(segmenter.stream(_frames(), PROMPTS)):
        found.append(result)
        found += act(segmenter, index)
    return found


def _assert_same(one: list[FrameResult], two: list[FrameResult]) -> None:
    assert [r.frame_index for r in one] == [r.frame_index for r in two]
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert len({r[1].logits.tobytes() for r in one}) > FRAMES // 2, "equal ones prove little"


@pytest.mark.parametrize("concurrent", [True, False])
@pytest.mark.parametrize("act", [lambda *_: (), _refine_and_remove], ids=["plain", "refined"])
def test_a_stream_equals_tracking(concurrent, act):
    backend = ParallelBackend(concurrent)
    with VideoSegmenter(backend) as segmenter:
        expected = _tracked(segmenter, act)
        segmenter.reset()
        backend.threads.clear()
        _assert_same(expected, _streamed(segmenter, act))
    main = threading.current_thread().name
    assert (main not in backend.threads[IMAGE_ENCODER]) == concurrent
    assert backend.threads[MEMORY_ATTENTION] == {main}
    assert _idle()


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ("model_path", "ort"),
        ("integer_attention_path", "ort"),
        slow("model_path", "openvino"),
        slow("integer_attention_path", "openvino"),
    ],
)
def test_a_real_model_streams_the_same_masks(engine, model, request):
    pytest.importorskip({"ort": "onnxruntime"}.get(engine, engine))
    path: Path = request.getfixturevalue(model)
    with open_backend(path, engine, threads=1) as backend:
        assert not runs_concurrently(backend)
    # Each gets an engine of its own: OpenVINO compiles models for sizes that repeat, and their sums
    # are rounded otherwise.
    with VideoSegmenter(path, engine, threads=2) as segmenter:
        assert runs_concurrently(segmenter._backend)
        expected = _tracked(segmenter, _refine_and_remove)
    with VideoSegmenter(path, engine, threads=2) as segmenter:
        _assert_same(expected, _streamed(segmenter, _refine_and_remove))


def test_other_backends_run_one_component_at_a_time():
    assert not runs_concurrently(FakeBackend())


def test_the_next_frame_is_encoded_while_one_is_tracked():
    backend = ParallelBackend()
    encoded = [threading.Event() for _ in range(FRAMES)]
    backend.on_encode = lambda index: encoded[index].set()
    with VideoSegmenter(backend) as segmenter:
        for result in segmenter.stream(_frames(), PROMPTS):
            if result.frame_index + 1 < FRAMES:
                assert encoded[result.frame_index + 1].wait(10)
            assert not any(event.is_set() for event in encoded[result.frame_index + 2 :])


def test_few_frames_are_alive_at_a_time():
    alive: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()

    def source() -> Iterator[np.ndarray]:
        for index in range(40):
            image = frame(index)
            alive[index] = image
            yield image
            del image

    most = 0
    with VideoSegmenter(ParallelBackend()) as segmenter:
        for _ in segmenter.stream(source(), {0: [click(1)]}):
            most = max(most, len(alive))
        assert most <= 3
        assert len(bank_of(segmenter, 1).tracked) <= 16


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("concurrent", [True, False])
def test_an_encoder_that_fails_ends_the_stream_at_its_frame(concurrent):
    backend = ParallelBackend(concurrent)
    backend.fail_at = 5
    found = []
    with VideoSegmenter(backend) as segmenter:
        with pytest.raises(EngineError, match="the encoder is broken"):
            found.extend(segmenter.stream(_frames(), PROMPTS))
        assert (segmenter.frame_index, segmenter.object_ids) == (4, (1, 2, 3))
        assert _idle()
        # As after an error of track(): the stream goes on as if the frame had never come.
        rest = [segmenter.track(frame(i), PROMPTS.get(i, ())) for i in range(5, FRAMES)]
        segmenter.reset()
        _assert_same(_tracked(segmenter, lambda *_: ()), [*found, *rest])


def test_an_error_of_the_source_comes_after_the_frames_before_it(backend):
    def source() -> Iterator[np.ndarray]:
        yield from _frames(3)
        raise OSError("the camera is gone")

    seen = []
    with VideoSegmenter(backend) as segmenter:
        with pytest.raises(OSError, match="the camera is gone"):
            seen.extend(r.frame_index for r in segmenter.stream(source(), {0: [click(1)]}))
        assert segmenter.frame_index == 2
    assert _idle()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (frame(0, 9, 9), "every frame must be of shape"),
        (np.zeros((20, 30, 3), np.float32), "must be a uint8 RGB array"),
        (None, "but got NoneType"),
    ],
)
def test_a_bad_frame_is_refused_in_its_turn(segmenter, wrong, message):
    seen = []
    with pytest.raises(VideoError, match=message):
        seen.extend(segmenter.stream([frame(0), frame(1), wrong, frame(3)]))
    assert segmenter.frame_index == 1
    assert _idle()


def test_a_bad_prompt_is_refused_in_its_turn(segmenter):
    with pytest.raises(PromptError, match="outside of the frame"):
        list(segmenter.stream(_frames(), {0: [click(1)], 3: [click(2, 1000)]}))
    assert segmenter.frame_index == 2
    with pytest.raises(PromptError, match="a prompt for frame 2, but the next frame is 3"):
        segmenter.stream(_frames(), {2: [click(2)], 4: []})
    found = list(segmenter.stream(_frames(2), {4: [click(2)], 99: [click(3)]}))
    assert [ids(result) for result in found] == [[1], [1, 2]]


def test_a_closed_segmenter_streams_nothing(backend):
    segmenter = VideoSegmenter(backend)
    with pytest.raises(EngineError, match="the segmenter is closed"):
        segmenter.stream(_frames())
    with segmenter:
        results = segmenter.stream(_frames(), {0: [click(1)]})
        next(results)
    with pytest.raises(EngineError, match="the segmenter is closed"):
        next(results)
    assert _idle()


def test_ctrl_c_while_waiting_for_the_encoder_leaves_no_thread():
    """The main thread waits for frame 3 when the signal comes."""
    backend = ParallelBackend()
    done = threading.Event()

    def interrupt(index: int) -> None:
        if index == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            done.wait(0.2)
            done.set()

    backend.on_encode = interrupt
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []
    try:
        with VideoSegmenter(backend) as segmenter:
            with pytest.raises(KeyboardInterrupt):
                seen.extend(segmenter.stream(_frames(), PROMPTS))
            assert done.is_set()
            assert _idle()
            assert segmenter.track(frame(3))[1].visible
    finally:
        signal.signal(signal.SIGINT, before)
