from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError, ModelFileError, PromptError, VideoError
from qsam2_deploy.runtime.memory import MemoryBank
from qsam2_deploy.runtime.results import FrameResult, Prompt
from qsam2_deploy.runtime.segmenter import VideoSegmenter
from qsam2_deploy.spec import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    NO_OBJ_SCORE,
)
from tests.runtime.fake_backend import FakeBackend, fake_spec

HEIGHT, WIDTH = 20, 30


def frame(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def click(object_id: int = 1, x: float = 8, y: float = 9, label: int = 1, **more: Any) -> Prompt:
    return Prompt(object_id, points=[(x, y)], labels=[label], **more)


def mask_prompt(object_id: int) -> Prompt:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, 5:15] = True
    return Prompt(object_id, mask=mask)


@pytest.fixture
def segmenter(backend: FakeBackend) -> Iterator[VideoSegmenter]:
    with VideoSegmenter(backend) as entered:
        yield entered


def _bank(segmenter: VideoSegmenter, object_id: int) -> MemoryBank:
    return segmenter._objects[object_id].bank


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


def _ids(result: FrameResult) -> list[int]:
    return [obj.object_id for obj in result.objects]


def _same(a: FrameResult, b: FrameResult) -> bool:
    assert _ids(a) == _ids(b)
    return all(np.array_equal(x.logits, y.logits) for x, y in zip(a.objects, b.objects, strict=True))


# ---------------------------------------------------------------- results
def test_a_result_fits_its_frame(segmenter: VideoSegmenter) -> None:
    result = segmenter.track(frame(0), [click(4)])
    found = result[4]
    assert result.frame_index == 0
    assert found.logits.shape == found.mask.shape == (HEIGHT, WIDTH)
    assert (found.logits.dtype, found.mask.dtype) == (np.float32, np.bool_)
    np.testing.assert_array_equal(found.mask, found.logits > 0)
    assert found.visible
    assert found.score == 5
    with pytest.raises(KeyError):
        result[5]


def test_frames_without_objects(segmenter: VideoSegmenter, backend: FakeBackend) -> None:
    assert segmenter.frame_index == -1
    for index in range(3):
        result = segmenter.track(frame(index))
        assert (result.frame_index, result.objects) == (index, ())
    assert set(backend.names()) == {IMAGE_ENCODER}
    assert segmenter.track(frame(3), [click()])[1].visible
    assert list(_bank(segmenter, 1).conditioning) == [3]


def test_absent_objects_stay_and_may_come_back(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click()])
    backend.score = -2.0
    hidden = segmenter.track(frame(1))[1]
    assert (hidden.visible, hidden.score, hidden.mask.any()) == (False, -2, False)
    assert (hidden.logits == NO_OBJ_SCORE).all()
    backend.score = 1.0
    assert segmenter.track(frame(2))[1].visible
    assert list(_bank(segmenter, 1).tracked) == [1, 2]


def test_masks_do_not_overlap_if_so_wished(backend: FakeBackend) -> None:
    prompts = [click(1, 8, 9), click(2, 20, 9)]
    with VideoSegmenter(backend) as overlapping:
        masks = [obj.mask for obj in overlapping.track(frame(0), prompts).objects]
        assert (masks[0] & masks[1]).any()
    with VideoSegmenter(backend, non_overlap_masks=True) as exclusive:
        found = exclusive.track(frame(0), prompts)
        assert not (found[1].mask & found[2].mask).any()
        assert found[1].mask.any()
        assert found[2].mask.any()


# ---------------------------------------------------------------- objects come, go, and change
def test_object_ids_keep_the_order_in_which_they_were_added(segmenter: VideoSegmenter) -> None:
    assert _ids(segmenter.track(frame(0), [click(7), click(3, 20)])) == [7, 3]
    assert _ids(segmenter.track(frame(1), [click(5, 15), click(3, 20)])) == [7, 3, 5]
    assert _ids(segmenter.refine(click(0, 12))) == [7, 3, 5, 0]
    segmenter.remove(3)
    assert segmenter.object_ids == (7, 5, 0)
    assert _ids(segmenter.track(frame(2))) == [7, 5, 0]
    assert _ids(segmenter.track(frame(3), [click(3)])) == [7, 5, 0, 3]


def test_an_object_added_later_does_not_disturb_others(segmenter: VideoSegmenter) -> None:
    def play(late: bool) -> list[np.ndarray]:
        segmenter.reset()
        segmenter.track(frame(0), [click(1)])
        found = []
        for index in range(1, 6):
            prompts = [click(2, 22, 12)] if late and index == 3 else []
            found.append(segmenter.track(frame(index), prompts)[1].logits)
        return found

    for a, b in zip(play(False), play(True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_new_object_starts_without_memory(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click(1)])
    segmenter.track(frame(1))
    before = backend.names().count(MEMORY_ATTENTION)
    segmenter.refine(click(2, 20))
    assert backend.names().count(MEMORY_ATTENTION) == before
    assert list(_bank(segmenter, 2).conditioning) == [1]


def test_a_prompt_on_a_new_frame_starts_the_object_anew_and_is_kept(
    segmenter: VideoSegmenter,
) -> None:
    segmenter.track(frame(0), [click()])
    segmenter.track(frame(1))
    anew = segmenter.track(frame(2), [click(1, 25, 15)])
    bank = _bank(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0, 2], [1])
    segmenter.reset()
    assert np.array_equal(segmenter.track(frame(2), [click(1, 25, 15)])[1].logits, anew[1].logits)


def test_a_correction_sees_the_memory_and_replaces_the_tracked_frame(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click()])
    tracked = segmenter.track(frame(1))
    encoded = backend.names().count(IMAGE_ENCODER)
    corrected = segmenter.refine(click(1, 25, 15, label=0))
    assert corrected.frame_index == 1
    assert not _same(tracked, corrected)
    assert backend.names().count(IMAGE_ENCODER) == encoded
    # It remembers frame 0; what was tracked on frame 1 comes in as the mask to be corrected.
    assert backend.last(MEMORY_ATTENTION)["memory"].shape[1] == 1
    bank = _bank(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0], [1])
    assert backend.last(MEMORY_ENCODER)["from_points"].all()
    assert backend.last(MASK_DECODER)["has_mask"].all()


def test_a_correction_changes_what_follows(segmenter: VideoSegmenter) -> None:
    def play(prompt: Prompt | None) -> FrameResult:
        segmenter.reset()
        segmenter.track(frame(0), [click()])
        segmenter.track(frame(1))
        if prompt:
            segmenter.refine(prompt)
        return segmenter.track(frame(2))

    assert not _same(play(None), play(click(1, 25, 15, label=0)))
    assert not _same(play(None), play(mask_prompt(1)))


def test_refining_the_first_frame_keeps_one_prompted_frame(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click()])
    segmenter.refine(click(1, 25, 15, label=0))
    assert MEMORY_ATTENTION not in backend.names()
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[0, -1]]
    assert backend.last(MASK_DECODER)["has_mask"].all()
    bank = _bank(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0], [])


@pytest.mark.parametrize(("clear", "labels"), [(True, [[0, -1]]), (False, [[1, 0, -1]])])
def test_earlier_points_of_the_frame_are_kept_on_demand(
    segmenter: VideoSegmenter, backend: FakeBackend, clear: bool, labels: list[list[int]]
) -> None:
    segmenter.track(frame(0), [click()])
    segmenter.refine(click(1, 25, 15, label=0, clear_old_points=clear))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == labels


def test_points_of_earlier_frames_are_forgotten(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click()])
    segmenter.track(frame(1))
    segmenter.refine(click(1, 25, 15, label=0, clear_old_points=False))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[0, -1]]


def test_a_mask_forgets_points(segmenter: VideoSegmenter, backend: FakeBackend) -> None:
    segmenter.track(frame(0), [click()])
    segmenter.refine(mask_prompt(1))
    segmenter.refine(click(1, 25, 15, clear_old_points=False))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[1, -1]]


def test_several_prompts_on_one_object_are_taken_in_turn(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    prompts = [click(), click(1, 25, 15, label=0, clear_old_points=False)]
    together = segmenter.track(frame(0), prompts)
    assert backend.names().count(MASK_DECODER) == 2
    assert backend.names().count(MEMORY_ENCODER) == 1
    segmenter.reset()
    segmenter.track(frame(0), prompts[:1])
    assert _same(segmenter.refine(prompts[1]), together)


def test_removed_objects_are_gone(segmenter: VideoSegmenter, backend: FakeBackend) -> None:
    segmenter.track(frame(0), [click(1), click(2, 20)])
    segmenter.remove(1)
    assert _ids(segmenter.track(frame(1))) == [2]
    assert backend.last(MEMORY_ATTENTION)["memory"].shape[0] == 1
    with pytest.raises(PromptError, match=r"no object 1 to remove; tracked are \[2\]"):
        segmenter.remove(1)
    segmenter.remove(2)
    assert segmenter.track(frame(2)).objects == ()
    assert list(_bank_after_prompt(segmenter).conditioning) == [3]


def _bank_after_prompt(segmenter: VideoSegmenter) -> MemoryBank:
    segmenter.track(frame(3), [click(1)])
    return _bank(segmenter, 1)


def test_objects_of_equal_age_are_tracked_in_one_batch(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click(i, 3 * i) for i in range(5)])
    before = len(backend.calls)
    segmenter.track(frame(1))
    assert sorted(backend.names()[before:]) == sorted(
        [IMAGE_ENCODER, MEMORY_ATTENTION, MASK_DECODER, MEMORY_ENCODER]
    )


# ---------------------------------------------------------------- bounded memory
def test_memory_stays_bounded_over_many_frames(backend: FakeBackend) -> None:
    sizes = []
    with VideoSegmenter(backend, max_conditioning_frames=4) as segmenter:
        for index in range(200):
            prompts = [click(1, index % WIDTH)] if index % 10 == 0 else []
            prompts += [click(2, 20)] if index == 3 else []
            segmenter.track(frame(index % 7), prompts)
            if index % 25 == 24:
                segmenter.refine(click(2, 4, label=0))
            backend.calls.clear()
            banks = [_bank(segmenter, i) for i in segmenter.object_ids]
            sizes.append(
                (
                    max(len(bank.conditioning) for bank in banks),
                    max(len(bank.tracked) for bank in banks),
                    max(sum(e.memory is not None for e in b.tracked.values()) for b in banks),
                )
            )
        assert list(_bank(segmenter, 1).conditioning) == [0, 170, 180, 190]
        assert list(_bank(segmenter, 2).conditioning) == [3]
    assert np.max(sizes, 0).tolist() == [4, 15, 6]
    assert sizes[40:60] == sizes[140:160]


# ---------------------------------------------------------------- numbers that are not finite
def test_a_bad_frame_is_shown_as_absent_and_left_out_of_the_memory(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click(1), click(2, 20)])
    backend.poison(MASK_DECODER, "mask_logits", row=1)
    with pytest.warns(RuntimeWarning, match="not finite"):
        result = segmenter.track(frame(1))
    assert (result[1].visible, result[2].visible) == (True, False)
    assert np.isfinite(result[2].logits).all()
    assert (list(_bank(segmenter, 1).tracked), list(_bank(segmenter, 2).tracked)) == ([1], [])
    backend.heal()
    assert segmenter.track(frame(2))[2].visible
    assert list(_bank(segmenter, 2).tracked) == [2]
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
def test_a_frame_that_fails_changes_nothing(
    segmenter: VideoSegmenter, backend: FakeBackend, fault: Callable[[FakeBackend], None]
) -> None:
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
    assert _ids(tracked) == [1, 2]
    segmenter.reset()
    for index in range(12):
        segmenter.track(frame(index), [click(1), mask_prompt(2)] if index == 0 else [])
    assert _same(segmenter.refine(click(1, 4, 4)), refined)
    assert _same(segmenter.track(frame(12)), tracked)


@pytest.mark.parametrize("prompt", [click(9, 3, 3), mask_prompt(9)], ids=["click", "mask"])
@pytest.mark.parametrize("fault", [(MASK_DECODER, "pointers"), (MEMORY_ENCODER, "memory")])
def test_a_refinement_that_fails_leaves_no_half_made_object(
    segmenter: VideoSegmenter, backend: FakeBackend, fault: tuple[str, str], prompt: Prompt
) -> None:
    segmenter.track(frame(0), [click(1)])
    segmenter.track(frame(1))
    before = _snapshot(segmenter)
    backend.poison(*fault)
    for bad in (prompt, click(1, 20)):
        with pytest.raises(EngineError, match="not finite for this prompt"):
            segmenter.refine(bad)
        assert _snapshot(segmenter) == before
    backend.heal()
    assert _ids(segmenter.track(frame(2))) == [1]


def test_a_first_frame_that_fails_leaves_an_empty_segmenter(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
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
def test_the_size_of_frames_may_change_only_after_a_reset(
    segmenter: VideoSegmenter, backend: FakeBackend
) -> None:
    segmenter.track(frame(0), [click()])
    calls = len(backend.calls)
    with pytest.raises(VideoError, match=r"shape \(20, 30, 3\), but got \(40, 50, 3\); call reset"):
        segmenter.track(frame(1, 40, 50))
    assert (segmenter.frame_index, len(backend.calls)) == (0, calls)
    assert _ids(segmenter.track(frame(1))) == [1]
    segmenter.reset()
    assert (segmenter.object_ids, segmenter.frame_index) == ((), -1)
    assert segmenter.track(frame(0, 40, 50), [click()])[1].mask.shape == (40, 50)


WRONG_FRAMES: list[Any] = [
    "frame.jpg", None, [[1, 2], [3, 4]], np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)),
    np.zeros((5, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_FRAMES, ids=lambda w: str(getattr(w, "shape", w)))
def test_wrong_frames(segmenter: VideoSegmenter, wrong: Any) -> None:
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
def test_wrong_prompts_are_refused_before_the_frame_is_taken(
    segmenter: VideoSegmenter, backend: FakeBackend, prompt: Prompt
) -> None:
    with pytest.raises(PromptError):
        segmenter.track(frame(0), [click(2), prompt])
    assert (segmenter.frame_index, segmenter.object_ids, backend.calls) == (-1, (), [])
    segmenter.track(frame(0), [click(2)])
    with pytest.raises(PromptError):
        segmenter.refine(prompt)
    assert segmenter.object_ids == (2,)


def test_refine_needs_a_frame(segmenter: VideoSegmenter) -> None:
    with pytest.raises(PromptError, match=r"no frame to refine yet; call track\(\) first"):
        segmenter.refine(click())


def test_closed(backend: FakeBackend) -> None:
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


def test_an_error_inside_the_block_closes_the_engine(backend: FakeBackend) -> None:
    with pytest.raises(ZeroDivisionError), VideoSegmenter(backend):
        raise ZeroDivisionError
    assert backend.entered == 0


@pytest.mark.parametrize("cap", [0, -1])
def test_the_cap_must_be_positive(backend: FakeBackend, cap: int) -> None:
    with pytest.raises(PromptError, match=f"must be at least 1, but got {cap}"):
        VideoSegmenter(backend, max_conditioning_frames=cap)


def test_the_spec_is_that_of_the_backend() -> None:
    spec = fake_spec()
    assert VideoSegmenter(FakeBackend(spec)).spec is spec


# ---------------------------------------------------------------- a real model
def test_a_real_model_tracks(model_path: Path) -> None:
    with VideoSegmenter(os.fspath(model_path), "ort", threads=1) as segmenter:
        first = segmenter.track(frame(0, 48, 64), [click(1, 20, 20)])
        second = segmenter.track(frame(1, 48, 64), [Prompt(2, box=(5, 5, 30, 40))])
    assert (_ids(first), _ids(second)) == ([1], [1, 2])
    assert all(np.isfinite(obj.logits).all() for obj in (*first.objects, *second.objects))
    assert not np.array_equal(first[1].logits, second[1].logits)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no model"):
        VideoSegmenter(tmp_path / "none.onnx")
