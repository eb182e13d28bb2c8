import copy
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError
from qsam2_deploy.spec import (
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    NO_OBJ_SCORE,
    TrackingRules,
)
from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits
from qsam2_deploy.tracking.memory import MemoryBank, MemoryEntry
from qsam2_deploy.tracking.tracker import FrameFeatures, Moment, PointInputs, Tracker
from tests.predictors.fake_backend import SIZE, WIDTH, FakeBackend, fake_spec

MASK_SIDE = SIZE // 4
CLICK = PointInputs(np.float32([[8, 9]]), np.int32([1]))
CLICKS = CLICK + PointInputs(np.float32([[30, 30]]), np.int32([0]))
FRAME = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
MOMENT = Moment(3)


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with FakeBackend() as entered:
        yield entered


@pytest.fixture
def tracker(backend) -> Tracker:
    return Tracker(backend)


@pytest.fixture
def features(tracker) -> FrameFeatures:
    return tracker.encode(FRAME)


def _bank(tracker: Tracker, features: FrameFeatures, x: float, frames: int = 1) -> MemoryBank:
    """Return the memory of an object that was clicked at ``x`` and then tracked."""
    points = PointInputs(np.float32([[x, 16]]), np.int32([1]))
    entry = tracker.predict_from_points(features, points, Moment(0))
    tracker.encode_memory(features, [entry], from_points=True)
    bank = MemoryBank({0: entry})
    for index in range(1, frames):
        bank.tracked[index] = tracker.track(features, [bank], Moment(index))[0]
    return bank


def _equal(a: MemoryEntry, b: MemoryEntry) -> bool:
    assert a.memory is not None
    assert b.memory is not None
    return (
        np.array_equal(a.mask_logits, b.mask_logits)
        and np.array_equal(a.pointer, b.pointer)
        and np.array_equal(a.memory, b.memory)
        and a.object_score == b.object_score
    )


# ---------------------------------------------------------------- what the components are given
def test_a_first_click_looks_at_its_frame_alone(tracker, backend, features):
    tracker.predict_from_points(features, CLICK, MOMENT)
    assert MEMORY_ATTENTION not in backend.names()
    given = backend.last(MASK_DECODER)
    no_memory = backend.spec.constants["no_mem_embed"][None, :, None, None]
    np.testing.assert_array_equal(given["conditioned"], features.features + no_memory)
    assert given["point_coords"].tolist() == [[[8, 9], [0, 0]]]
    assert given["point_labels"].tolist() == [[1, -1]]
    assert not given["has_mask"].any()


def test_a_correction_sees_the_memory_and_the_clipped_earlier_mask(tracker, backend, features):
    bank = _bank(tracker, features, 8, frames=3)
    previous = np.linspace(-50, 50, MASK_SIDE**2, dtype=np.float32).reshape(MASK_SIDE, MASK_SIDE)
    tracker.predict_from_points(features, CLICK, MOMENT, bank=bank, previous=previous)
    assert backend.last(MEMORY_ATTENTION)["memory"].shape[:2] == (1, 3)
    given = backend.last(MASK_DECODER)
    assert given["has_mask"].all()
    np.testing.assert_array_equal(given["mask_input"][0, 0], previous.clip(-32, 32))


def test_tracking_gives_the_decoder_no_prompt(tracker, backend, features):
    tracker.track(features, [_bank(tracker, features, 8)], MOMENT)
    given = backend.last(MASK_DECODER)
    assert given["point_labels"].tolist() == [[-1, -1]]
    assert not given["has_mask"].any()
    assert not backend.last(MEMORY_ENCODER)["from_points"].any()


def test_prompted_masks_are_binarised_for_the_memory_only_if_the_rules_say_so(features):
    for wanted in (True, False):
        rules = {"binarize_mask_from_pts_for_mem_enc": wanted}
        with FakeBackend(fake_spec(**rules)) as backend:
            _bank(Tracker(backend), features, 8)
            assert backend.last(MEMORY_ENCODER)["from_points"].tolist() == [wanted]


def test_memories_are_rounded_to_bfloat16(tracker, features):
    memory = _bank(tracker, features, 8).conditioning[0].memory
    assert memory is not None
    assert memory.dtype == np.uint16
    assert np.ptp(from_bfloat16_bits(memory)) > 0


# ---------------------------------------------------------------- which candidate
@pytest.mark.parametrize(
    ("points", "candidate"), [(CLICK, 2), (CLICKS, 0)], ids=["one click", "two clicks"]
)
def test_only_ambiguous_prompts_take_the_best_of_three(
    tracker, backend, features, points, candidate
):
    rules = TrackingRules(dynamic_multimask_via_stability=False)
    tracker.rules = rules
    entry = tracker.predict_from_points(features, points, MOMENT)
    outputs = backend.run(MASK_DECODER, backend.last(MASK_DECODER))
    np.testing.assert_array_equal(entry.mask_logits, outputs["mask_logits"][0, candidate])
    np.testing.assert_array_equal(entry.pointer, outputs["pointers"][0, candidate])


@pytest.mark.parametrize(("multimask", "candidate"), [(True, 2), (False, 0)])
def test_tracking_follows_its_own_multimask_flag(features, multimask, candidate):
    spec = fake_spec(multimask_output_for_tracking=multimask, dynamic_multimask_via_stability=False)
    with FakeBackend(spec) as backend:
        tracker = Tracker(backend)
        entry = tracker.track(features, [_bank(tracker, features, 8)], MOMENT)[0]
        outputs = backend.run(MASK_DECODER, backend.last(MASK_DECODER))
        np.testing.assert_array_equal(entry.mask_logits, outputs["mask_logits"][0, candidate])


# ---------------------------------------------------------------- masks as prompts
def test_a_mask_is_taken_as_it_is(tracker, backend, features):
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[:, : SIZE // 2] = 1
    entry = tracker.predict_from_mask(features, mask)
    assert entry.mask_logits.shape == (MASK_SIDE, MASK_SIDE)
    assert entry.mask_logits[:, 0] == pytest.approx(10)
    assert entry.mask_logits[:, -1] == pytest.approx(-10)
    assert entry.object_score == 10
    given = backend.last(MASK_DECODER)
    np.testing.assert_array_equal(given["conditioned"], features.features)
    np.testing.assert_allclose(given["mask_input"][0, 0], mask[::4, ::4])
    outputs = backend.run(MASK_DECODER, given)
    np.testing.assert_array_equal(entry.pointer, outputs["pointers"][0, 0])


def test_an_empty_mask_is_an_absent_object(tracker, backend, features):
    entry = tracker.predict_from_mask(features, np.zeros((SIZE, SIZE), np.float32))
    assert entry.object_score == -10
    # The weights of the resize add up to 1 but for the last bit, whose sum is the processor's.
    np.testing.assert_allclose(entry.mask_logits, -10, rtol=1e-6)
    np.testing.assert_array_equal(entry.pointer, backend.spec.constants["no_obj_ptr"])


# ---------------------------------------------------------------- absent objects
def test_a_negative_score_gives_no_mask(tracker, backend, features):
    bank = _bank(tracker, features, 8)
    backend.score = -1.0
    entry = tracker.track(features, [bank], MOMENT)[0]
    assert (entry.mask_logits == NO_OBJ_SCORE).all()
    assert entry.object_score == -1
    assert entry.finite
    assert entry.memory is not None
    assert backend.last(MEMORY_ENCODER)["object_score"].tolist() == [[-1]]


# ---------------------------------------------------------------- batches
def test_batches_by_signature_equal_one_by_one(tracker, backend, features):
    banks = [_bank(tracker, features, x, frames) for x, frames in
             ((4, 3), (12, 1), (20, 3), (26, 2), (30, 1))]  # fmt: skip
    backend.score = [3.0]
    before = len(backend.calls)
    together = tracker.track(features, banks, MOMENT)
    names = backend.names()[before:]
    assert names.count(MEMORY_ATTENTION) == names.count(MASK_DECODER) == 3
    assert names.count(MEMORY_ENCODER) == 1
    alone = [tracker.track(features, [bank], MOMENT)[0] for bank in banks]
    assert all(_equal(a, b) for a, b in zip(together, alone, strict=True))
    # The objects differ, so that mixed up rows would be seen.
    others = [(i, j) for i in range(5) for j in range(i)]
    assert not any(_equal(alone[i], alone[j]) for i, j in others)


def test_scores_in_a_batch_stay_with_their_objects(tracker, backend, features):
    banks = [_bank(tracker, features, x) for x in (4, 12, 20)]
    backend.score = [2.0, -2.0, 4.0]
    entries = tracker.track(features, banks, MOMENT)
    assert [entry.object_score for entry in entries] == [2, -2, 4]
    absent = [bool((entry.mask_logits == NO_OBJ_SCORE).all()) for entry in entries]
    assert absent == [False, True, False]


def test_nothing_to_track_runs_nothing(tracker, backend, features):
    before = len(backend.calls)
    assert tracker.track(features, [], MOMENT) == []
    tracker.encode_memory(features, [], from_points=True)
    assert len(backend.calls) == before


# ---------------------------------------------------------------- numbers that are not finite
_DECODED = [(MASK_DECODER, name) for name in ("object_score", "mask_logits", "pointers")]
_ANY = [*_DECODED, (MEMORY_ENCODER, "memory")]
FAULTS = [
    *((*where, value) for where in _ANY for value in (np.nan, np.inf, -np.inf)),
    # A quality of -inf is never the best, and its mask is not used.
    (MASK_DECODER, "ious", np.nan),
    (MASK_DECODER, "ious", np.inf),
    (MEMORY_ATTENTION, "conditioned", np.nan),
]


@pytest.mark.parametrize(("component", "output", "value"), FAULTS)
def test_tracking_warns_and_gives_an_absent_object(
    tracker, backend, features, component, output, value
):
    banks = [_bank(tracker, features, x) for x in (4, 12, 20)]
    good = tracker.track(features, banks, MOMENT)
    before = copy.deepcopy(banks)
    backend.poison(component, output, value, row=1)
    with pytest.warns(RuntimeWarning, match="not finite; the frame is left out of the memory"):
        entries = tracker.track(features, banks, MOMENT)
    assert [entry.finite for entry in entries] == [True, False, True]
    assert _equal(entries[0], good[0])
    assert _equal(entries[2], good[2])
    assert entries[1].memory is None
    assert np.isfinite(entries[1].mask_logits).all()
    assert np.isfinite(entries[1].pointer).all()
    if component != MEMORY_ENCODER:
        assert (entries[1].mask_logits == NO_OBJ_SCORE).all()
        assert entries[1].object_score == NO_OBJ_SCORE
    for bank, old in zip(banks, before, strict=True):
        assert bank.tracked.keys() == old.tracked.keys()
        assert bank.conditioning.keys() == old.conditioning.keys()


def test_candidates_that_are_not_chosen_do_no_harm(tracker, backend, features):
    bank = _bank(tracker, features, 8)
    outputs = backend.run(MASK_DECODER, backend.last(MASK_DECODER))
    outputs["mask_logits"][:, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend._mask_decoder = lambda **_: outputs
        assert tracker.track(features, [bank], MOMENT)[0].finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("output", ["object_score", "mask_logits", "ious", "pointers"])
def test_a_prompt_raises(tracker, backend, features, output, value):
    backend.poison(MASK_DECODER, output, value)
    with pytest.raises(EngineError, match="not finite for this prompt; check the checkpoint"):
        tracker.predict_from_points(features, CLICK, MOMENT)


def test_a_mask_prompt_raises(tracker, backend, features):
    backend.poison(MASK_DECODER, "pointers")
    with pytest.raises(EngineError, match="not finite for this prompt"):
        tracker.predict_from_mask(features, np.ones((SIZE, SIZE), np.float32))


def test_the_memory_of_a_prompt_raises(tracker, backend, features):
    entry = tracker.predict_from_points(features, CLICK, MOMENT)
    backend.poison(MEMORY_ENCODER, "memory")
    with pytest.raises(EngineError, match="not finite for this prompt"):
        tracker.encode_memory(features, [entry], from_points=True)
    assert entry.memory is None


# ---------------------------------------------------------------- holes
def test_holes_are_filled_in_results_but_not_in_tracked_memories(features):
    with FakeBackend() as backend:
        tracker = Tracker(backend, fill_hole_area=4)
        bank = _bank(tracker, features, 8)
        found = backend.run(MASK_DECODER, backend.last(MASK_DECODER))
        found["mask_logits"][:] = 5
        found["mask_logits"][:, :, 4, 4] = -5
        backend._mask_decoder = lambda **_: found
        entry = tracker.track(features, [bank], MOMENT)[0]
        assert (entry.mask_logits > 0).all()
        assert backend.last(MEMORY_ENCODER)["mask_logits"].min() == -5
        prompted = tracker.predict_from_points(features, CLICK, MOMENT)
        assert (prompted.mask_logits > 0).all()
    assert entry.pointer.shape == (WIDTH,)
