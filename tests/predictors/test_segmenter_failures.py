from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError, PromptError, VideoError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import IMAGE_ENCODER, MASK_DECODER, MEMORY_ATTENTION, MEMORY_ENCODER
from qsam2_deploy.tracking.results import Prompt
from tests.predictors.fake_backend import FakeBackend, fake_spec
from tests.predictors.stream import WIDTH, bank_of, click, frame, ids, mask_prompt, same


def _snapshot(segmenter: VideoSegmenter) -> Any:
    """Return everything that the next frame's result depends on."""
    return (
        segmenter.frame_index,
        {
            object_id: (
                [(i, e.memory is None) for i, e in sorted(obj.bank.conditioning.items())],
                [(i, e.memory is None) for i, e in sorted(obj.bank.tracked.items())],
                None if obj.points is None else obj.points.coords.tolist(),
                id(obj.newest),
            )
            for object_id, obj in segmenter._objects.items()
        },
    )


# ---------------------------------------------------------------- numbers that are not finite
def test_a_bad_frame_is_shown_as_absent_and_left_out_of_the_memory(segmenter, backend):
    segmenter.track(frame(0), [click(1), click(2, 20)])
    backend.poison(MASK_DECODER, "mask_logits", row=1)
    with pytest.warns(RuntimeWarning, match="not finite"):
        result = segmenter.track(frame(1))
    assert (result[1].visible, result[2].visible) == (True, False)
    assert np.isfinite(result[2].logits).all()
    assert (list(bank_of(segmenter, 1).tracked), list(bank_of(segmenter, 2).tracked)) == ([1], [])
    backend.heal()
    assert segmenter.track(frame(2))[2].visible
    assert list(bank_of(segmenter, 2).tracked) == [2]
    assert all(np.isfinite(value).all() for _, given in backend.calls for value in given.values())


FAULTS: list[tuple[str, Callable[[FakeBackend], None]]] = [
    ("decoder gives NaN", lambda b: b.poison(MASK_DECODER, "object_score")),
    ("second prompt gives NaN", lambda b: b.poison(MASK_DECODER, "mask_logits", after=1)),
    ("memory gives NaN", lambda b: b.poison(MEMORY_ENCODER, "memory", row=0)),
    ("encoder breaks", lambda b: b.break_down(IMAGE_ENCODER)),
    ("attention breaks", lambda b: b.break_down(MEMORY_ATTENTION)),
    ("decoder breaks", lambda b: b.break_down(MASK_DECODER)),
    ("memory encoder breaks", lambda b: b.break_down(MEMORY_ENCODER)),
]


@pytest.mark.filterwarnings("ignore:the model returned numbers")
@pytest.mark.parametrize("fault", [f for _, f in FAULTS], ids=[name for name, _ in FAULTS])
def test_a_frame_that_fails_changes_nothing(segmenter, backend, fault):
    for index in range(12):
        segmenter.track(frame(index), [click(1), mask_prompt(2)] if index == 0 else [])
    before = _snapshot(segmenter)
    fault(backend)
    with pytest.raises(EngineError):
        segmenter.track(frame(12), [click(1, 20), click(9, 3, 3)])
    assert _snapshot(segmenter) == before
    backend.heal()
    # The stream goes on as if the frame had never been given.
    refined, tracked = segmenter.refine(click(1, 4, 4)), segmenter.track(frame(12))
    assert ids(tracked) == [1, 2]
    segmenter.reset()
    for index in range(12):
        segmenter.track(frame(index), [click(1), mask_prompt(2)] if index == 0 else [])
    assert same(segmenter.refine(click(1, 4, 4)), refined)
    assert same(segmenter.track(frame(12)), tracked)


@pytest.mark.parametrize("prompt", [click(9, 3, 3), mask_prompt(9)], ids=["click", "mask"])
@pytest.mark.parametrize("fault", [(MASK_DECODER, "pointers"), (MEMORY_ENCODER, "memory")])
def test_a_refinement_that_fails_leaves_no_half_made_object(segmenter, backend, fault, prompt):
    segmenter.track(frame(0), [click(1)])
    segmenter.track(frame(1))
    before = _snapshot(segmenter)
    backend.poison(*fault)
    for bad in (prompt, click(1, 20)):
        with pytest.raises(EngineError, match="not finite for this prompt"):
            segmenter.refine(bad)
        assert _snapshot(segmenter) == before
    backend.heal()
    assert ids(segmenter.track(frame(2))) == [1]


def test_a_first_frame_that_fails_leaves_an_empty_segmenter(segmenter, backend):
    backend.poison(MEMORY_ENCODER, "memory")
    with pytest.raises(EngineError):
        segmenter.track(frame(0), [click(1)])
    assert (segmenter.frame_index, segmenter.object_ids) == (-1, ())
    with pytest.raises(PromptError, match="no frame to refine yet"):
        segmenter.refine(click(1))
    backend.heal()
    # Not even the size of the failed frame counts.
    assert segmenter.track(frame(0, 40, 50), [click(1)]).frame_index == 0


# ---------------------------------------------------------------- wrong use
def test_the_size_of_frames_may_change_only_after_a_reset(segmenter, backend):
    segmenter.track(frame(0), [click()])
    calls = len(backend.calls)
    with pytest.raises(VideoError, match=r"shape \(20, 30, 3\), but got \(40, 50, 3\); call reset"):
        segmenter.track(frame(1, 40, 50))
    assert (segmenter.frame_index, len(backend.calls)) == (0, calls)
    assert ids(segmenter.track(frame(1))) == [1]
    segmenter.reset()
    assert (segmenter.object_ids, segmenter.frame_index) == ((), -1)
    assert segmenter.track(frame(0, 40, 50), [click()])[1].mask.shape == (40, 50)


WRONG_FRAMES: list[Any] = [
    "frame.jpg", None, [[1, 2], [3, 4]], np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)),
    np.zeros((5, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_FRAMES, ids=lambda w: str(getattr(w, "shape", w)))
def test_wrong_frames(segmenter, wrong):
    for _ in range(2):
        with pytest.raises(VideoError, match="shape"):
            segmenter.track(wrong)
        with pytest.raises((VideoError, PromptError)):
            segmenter.track(wrong, [click(1, 0, 0)])
        assert (segmenter.frame_index, segmenter.object_ids) == (-1, ())
        segmenter.track(frame(0), [click()])
        segmenter.reset()


WRONG_PROMPTS = [
    Prompt(1),
    Prompt(-1, points=[(1, 1)], labels=[1]),
    Prompt(1, points=[(1, 1)]),
    Prompt(1, points=[(1, 1)], labels=[5]),
    Prompt(1, points=[(WIDTH, 1)], labels=[1]),
    Prompt(1, box=(5, 5, 5, 9)),
    Prompt(1, mask=np.ones((3, 3), bool)),
]


@pytest.mark.parametrize("prompt", WRONG_PROMPTS)
def test_wrong_prompts_are_refused_before_the_frame_is_taken(segmenter, backend, prompt):
    with pytest.raises(PromptError):
        segmenter.track(frame(0), [click(2), prompt])
    assert (segmenter.frame_index, segmenter.object_ids, backend.calls) == (-1, (), [])
    segmenter.track(frame(0), [click(2)])
    with pytest.raises(PromptError):
        segmenter.refine(prompt)
    assert segmenter.object_ids == (2,)


def test_refine_needs_a_frame(segmenter):
    with pytest.raises(PromptError, match=r"no frame to refine yet; call track\(\) first"):
        segmenter.refine(click())


def test_closed(backend):
    segmenter = VideoSegmenter(backend)
    for _ in range(2):
        with pytest.raises(EngineError, match="the segmenter is closed; use it as: with"):
            segmenter.track(frame(0))
        with pytest.raises(EngineError, match="the segmenter is closed"):
            segmenter.refine(click())
        assert backend.entered == 0
        with segmenter:
            assert backend.entered == 1
            segmenter.track(frame(0), [click()])
        assert segmenter.object_ids == ()


def test_an_error_inside_the_block_closes_the_engine(backend):
    with pytest.raises(ZeroDivisionError), VideoSegmenter(backend):
        raise ZeroDivisionError
    assert backend.entered == 0


@pytest.mark.parametrize("cap", [0, -1])
def test_the_cap_must_be_positive(backend, cap):
    with pytest.raises(PromptError, match=f"must be at least 1, but got {cap}"):
        VideoSegmenter(backend, max_conditioning_frames=cap)


def test_the_spec_is_that_of_the_backend():
    spec = fake_spec()
    assert VideoSegmenter(FakeBackend(spec)).spec is spec
