import os

import numpy as np
import pytest

from qsam2_deploy.errors import ModelFileError, PromptError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    NO_OBJ_SCORE,
)
from qsam2_deploy.tracking.results import FrameResult, Prompt
from tests.predictors.stream import HEIGHT, WIDTH, bank_of, click, frame, ids, mask_prompt, same


# ---------------------------------------------------------------- results
def test_a_result_fits_its_frame(segmenter):
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


def test_frames_without_objects(segmenter, backend):
    assert segmenter.frame_index == -1
    for index in range(3):
        result = segmenter.track(frame(index))
        assert (result.frame_index, result.objects) == (index, ())
    assert set(backend.names()) == {IMAGE_ENCODER}
    assert segmenter.track(frame(3), [click()])[1].visible
    assert list(bank_of(segmenter, 1).conditioning) == [3]


def test_absent_objects_stay_and_may_come_back(segmenter, backend):
    segmenter.track(frame(0), [click()])
    backend.score = -2.0
    hidden = segmenter.track(frame(1))[1]
    assert (hidden.visible, hidden.score, hidden.mask.any()) == (False, -2, False)
    assert (hidden.logits == NO_OBJ_SCORE).all()
    backend.score = 1.0
    assert segmenter.track(frame(2))[1].visible
    assert list(bank_of(segmenter, 1).tracked) == [1, 2]


def test_masks_do_not_overlap_if_so_wished(backend):
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
def test_object_ids_keep_the_order_in_which_they_were_added(segmenter):
    assert ids(segmenter.track(frame(0), [click(7), click(3, 20)])) == [7, 3]
    assert ids(segmenter.track(frame(1), [click(5, 15), click(3, 20)])) == [7, 3, 5]
    assert ids(segmenter.refine(click(0, 12))) == [7, 3, 5, 0]
    segmenter.remove(3)
    assert segmenter.object_ids == (7, 5, 0)
    assert ids(segmenter.track(frame(2))) == [7, 5, 0]
    assert ids(segmenter.track(frame(3), [click(3)])) == [7, 5, 0, 3]


def test_an_object_added_later_does_not_disturb_others(segmenter):
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


def test_a_new_object_starts_without_memory(segmenter, backend):
    segmenter.track(frame(0), [click(1)])
    segmenter.track(frame(1))
    before = backend.names().count(MEMORY_ATTENTION)
    segmenter.refine(click(2, 20))
    assert backend.names().count(MEMORY_ATTENTION) == before
    assert list(bank_of(segmenter, 2).conditioning) == [1]


def test_a_prompt_on_a_new_frame_starts_the_object_anew_and_is_kept(segmenter):
    segmenter.track(frame(0), [click()])
    segmenter.track(frame(1))
    anew = segmenter.track(frame(2), [click(1, 25, 15)])
    bank = bank_of(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0, 2], [1])
    segmenter.reset()
    assert np.array_equal(segmenter.track(frame(2), [click(1, 25, 15)])[1].logits, anew[1].logits)


def test_a_correction_sees_the_memory_and_replaces_the_tracked_frame(segmenter, backend):
    segmenter.track(frame(0), [click()])
    tracked = segmenter.track(frame(1))
    calls = len(backend.calls)
    corrected = segmenter.refine(click(1, 25, 15, label=0))
    assert corrected.frame_index == 1
    assert not same(tracked, corrected)
    assert backend.names()[calls:] == [MEMORY_ATTENTION, MASK_DECODER, MEMORY_ENCODER]
    # It remembers frame 0; what was tracked on frame 1 comes in as the mask to be corrected.
    assert backend.last(MEMORY_ATTENTION)["memory"].shape[1] == 1
    bank = bank_of(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0], [1])
    assert backend.last(MEMORY_ENCODER)["from_points"].all()
    assert backend.last(MASK_DECODER)["has_mask"].all()


def test_a_correction_changes_what_follows(segmenter):
    def play(prompt: Prompt | None) -> FrameResult:
        segmenter.reset()
        segmenter.track(frame(0), [click()])
        segmenter.track(frame(1))
        if prompt:
            segmenter.refine(prompt)
        return segmenter.track(frame(2))

    assert not same(play(None), play(click(1, 25, 15, label=0)))
    assert not same(play(None), play(mask_prompt(1)))


def test_refining_the_first_frame_keeps_one_prompted_frame(segmenter, backend):
    segmenter.track(frame(0), [click()])
    segmenter.refine(click(1, 25, 15, label=0))
    assert MEMORY_ATTENTION not in backend.names()
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[0, -1]]
    assert backend.last(MASK_DECODER)["has_mask"].all()
    bank = bank_of(segmenter, 1)
    assert (list(bank.conditioning), list(bank.tracked)) == ([0], [])


@pytest.mark.parametrize(("clear", "labels"), [(True, [[0, -1]]), (False, [[1, 0, -1]])])
def test_earlier_points_of_the_frame_are_kept_on_demand(segmenter, backend, clear, labels):
    segmenter.track(frame(0), [click()])
    segmenter.refine(click(1, 25, 15, label=0, clear_old_points=clear))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == labels


def test_points_of_earlier_frames_are_forgotten(segmenter, backend):
    segmenter.track(frame(0), [click()])
    segmenter.track(frame(1))
    segmenter.refine(click(1, 25, 15, label=0, clear_old_points=False))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[0, -1]]


def test_a_mask_forgets_points(segmenter, backend):
    segmenter.track(frame(0), [click()])
    segmenter.refine(mask_prompt(1))
    segmenter.refine(click(1, 25, 15, clear_old_points=False))
    assert backend.last(MASK_DECODER)["point_labels"].tolist() == [[1, -1]]


def test_several_prompts_on_one_object_are_taken_in_turn(segmenter, backend):
    prompts = [click(), click(1, 25, 15, label=0, clear_old_points=False)]
    together = segmenter.track(frame(0), prompts)
    assert backend.names().count(MASK_DECODER) == 2
    assert backend.names().count(MEMORY_ENCODER) == 1
    segmenter.reset()
    segmenter.track(frame(0), prompts[:1])
    assert same(segmenter.refine(prompts[1]), together)


def test_box_is_not_added_to_earlier_points(segmenter):
    """As upstream: a box must come before any point."""
    segmenter.track(frame(0), [click()])
    prompt = Prompt(object_id=1, box=(5, 5, 20, 20), clear_old_points=False)
    with pytest.raises(PromptError, match="clear_old_points=True"):
        segmenter.refine(prompt)


def test_removed_objects_are_gone(segmenter, backend):
    segmenter.track(frame(0), [click(1), click(2, 20)])
    segmenter.remove(1)
    assert ids(segmenter.track(frame(1))) == [2]
    assert backend.last(MEMORY_ATTENTION)["memory"].shape[0] == 1
    with pytest.raises(PromptError, match=r"no object 1 to remove; tracked are \[2\]"):
        segmenter.remove(1)
    segmenter.remove(2)
    assert segmenter.track(frame(2)).objects == ()
    segmenter.track(frame(3), [click(1)])
    assert list(bank_of(segmenter, 1).conditioning) == [3]


def test_objects_of_equal_age_are_tracked_in_one_batch(segmenter, backend):
    segmenter.track(frame(0), [click(i, 3 * i) for i in range(5)])
    before = len(backend.calls)
    segmenter.track(frame(1))
    assert sorted(backend.names()[before:]) == sorted(
        [IMAGE_ENCODER, MEMORY_ATTENTION, MASK_DECODER, MEMORY_ENCODER]
    )


# ---------------------------------------------------------------- bounded memory
def test_memory_stays_bounded_over_many_frames(backend):
    sizes = []
    with VideoSegmenter(backend, max_conditioning_frames=4) as segmenter:
        for index in range(200):
            prompts = [click(1, index % WIDTH)] if index % 10 == 0 else []
            prompts += [click(2, 20)] if index == 3 else []
            segmenter.track(frame(index % 7), prompts)
            if index % 25 == 24:
                segmenter.refine(click(2, 4, label=0))
            backend.calls.clear()
            banks = [bank_of(segmenter, i) for i in segmenter.object_ids]
            sizes.append(
                (
                    max(len(bank.conditioning) for bank in banks),
                    max(len(bank.tracked) for bank in banks),
                    max(sum(e.memory is not None for e in b.tracked.values()) for b in banks),
                )
            )
        assert list(bank_of(segmenter, 1).conditioning) == [0, 170, 180, 190]
        assert list(bank_of(segmenter, 2).conditioning) == [3]
    assert np.max(sizes, 0).tolist() == [4, 16, 7]
    assert sizes[40:60] == sizes[140:160]


# ---------------------------------------------------------------- a real model
def test_a_real_model_tracks(model_path):
    with VideoSegmenter(os.fspath(model_path), "ort", threads=1) as segmenter:
        first = segmenter.track(frame(0, 48, 64), [click(1, 20, 20)])
        second = segmenter.track(frame(1, 48, 64), [Prompt(2, box=(5, 5, 30, 40))])
    assert (ids(first), ids(second)) == ([1], [1, 2])
    assert all(np.isfinite(obj.logits).all() for obj in (*first.objects, *second.objects))
    assert not np.array_equal(first[1].logits, second[1].logits)


def test_no_such_model(tmp_path):
    with pytest.raises(ModelFileError, match="there is no model"):
        VideoSegmenter(tmp_path / "none.onnx")
