import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsam2_deploy.spec import TrackingRules
from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits
from qsam2_deploy.tracking.memory import (
    MemoryBank,
    MemoryEntry,
    MemorySelection,
    closest_conditioning,
    select_memories,
    stack_memories,
)
from tests.support.strategies import POINTER_WIDTH, memory_banks, memory_entry, tracking_rules

RULES = TrackingRules()
FRAMES = 40


def _bank(conditioning: list[int], tracked: range | list[int]) -> MemoryBank:
    return MemoryBank(
        {i: memory_entry(i) for i in conditioning}, {i: memory_entry(i) for i in tracked}
    )


def _numbers(entries: tuple[MemoryEntry, ...]) -> list[int]:
    """Return the frame numbers that the entries were made for."""
    found = []
    for entry in entries:
        assert entry.memory is not None
        found.append(int(from_bfloat16_bits(entry.memory).flat[0]))
    return found


def _pointers(selection: MemorySelection) -> list[int]:
    return [int(pointer[0]) for pointer in selection.pointers]


def _distances(selection: MemorySelection, largest: int) -> list[int]:
    return [round(t * largest) for t in selection.pointer_tpos]


# ---------------------------------------------------------------- by hand, usual rules
def test_after_one_prompt():
    chosen = select_memories(_bank([0], []), 1, RULES)
    assert _numbers(chosen.memories) == [0]
    assert chosen.memory_tpos == (6,)
    assert _pointers(chosen) == [0]
    assert chosen.pointer_tpos == (float(np.float32(1) / np.float32(15)),)


def test_steady_state_of_a_long_video():
    chosen = select_memories(_bank([0], range(1, 30)), 30, RULES)
    assert _numbers(chosen.memories) == [0, 24, 25, 26, 27, 28, 29]
    assert chosen.memory_tpos == (6, 5, 4, 3, 2, 1, 0)
    assert _pointers(chosen) == [0, *range(29, 14, -1)]
    assert _distances(chosen, 15) == [30, *range(1, 16)]


def test_missing_frames_are_absent_and_not_padded():
    chosen = select_memories(_bank([0], [5, 9]), 10, RULES)
    assert _numbers(chosen.memories) == [0, 5, 9]
    assert chosen.memory_tpos == (6, 4, 0)
    assert _pointers(chosen) == [0, 9, 5]


def test_entries_without_memory_features_give_their_pointer_only():
    bank = _bank([0], range(1, 10))
    bank.tracked[8].memory = None
    chosen = select_memories(bank, 10, RULES)
    assert _numbers(chosen.memories) == [0, 4, 5, 6, 7, 9]
    assert 8 in _pointers(chosen)


def test_all_prompts_count_however_far_away():
    chosen = select_memories(_bank([0, 3, 100], [101, 102]), 103, RULES)
    assert _numbers(chosen.memories) == [0, 3, 100, 101, 102]
    assert chosen.memory_tpos == (6, 6, 6, 1, 0)


def test_pointers_of_prompts_ahead_are_left_out():
    bank = _bank([0, 8], [1, 2, 3])
    assert _pointers(select_memories(bank, 4, RULES)) == [0, 3, 2, 1]
    assert _numbers(select_memories(bank, 4, RULES).memories) == [0, 8, 1, 2, 3]
    ahead = TrackingRules(only_obj_ptrs_in_the_past_for_eval=False)
    assert _distances(select_memories(bank, 4, ahead), 15) == [4, -4, 1, 2, 3]
    unsigned = TrackingRules(
        only_obj_ptrs_in_the_past_for_eval=False, use_signed_tpos_enc_to_obj_ptrs=False
    )
    assert _distances(select_memories(bank, 4, unsigned), 15) == [4, 4, 1, 2, 3]


def test_reverse_looks_at_later_frames():
    chosen = select_memories(_bank([9], range(5, 9)), 4, RULES, reverse=True, num_frames=20)
    assert _numbers(chosen.memories) == [9, 8, 7, 6, 5]
    assert chosen.memory_tpos == (6, 3, 2, 1, 0)
    assert _pointers(chosen) == [9, 5, 6, 7, 8]
    assert _distances(chosen, 15) == [5, 1, 2, 3, 4]


def test_short_videos_have_fewer_pointers_and_another_unit_of_time():
    chosen = select_memories(_bank([0], range(1, 4)), 4, RULES, num_frames=5)
    assert _pointers(chosen) == [0, 3, 2, 1]
    assert _distances(chosen, 4) == [4, 1, 2, 3]
    assert max(chosen.pointer_tpos) == 1


def test_pointers_stop_at_the_first_and_the_last_frame():
    bank = _bank([1], [0, 2, 3, 4])
    bank.tracked[-1] = bank.tracked[5] = memory_entry(99)
    assert _pointers(select_memories(bank, 2, RULES, num_frames=5)) == [1, 0]
    assert _pointers(select_memories(bank, 2, RULES, reverse=True, num_frames=5)) == [3, 4]


def test_a_video_of_one_frame_does_not_divide_by_zero():
    chosen = select_memories(_bank([0], []), 0, RULES, num_frames=1)
    assert chosen.pointer_tpos == (0.0,)


@pytest.mark.parametrize(
    ("frame", "expected"), [(20, [10, 12, 14, 16, 18, 19]), (21, [10, 12, 14, 16, 18, 20])]
)
def test_stride_takes_the_last_frame_and_every_second_before(frame, expected):
    rules = TrackingRules(memory_temporal_stride_for_eval=2)
    chosen = select_memories(_bank([0], range(1, frame)), frame, rules)
    assert _numbers(chosen.memories) == [0, *expected]
    assert chosen.memory_tpos == (6, 5, 4, 3, 2, 1, 0)


def test_prompts_that_are_not_chosen_count_as_tracked_frames():
    rules = TrackingRules(max_cond_frames_in_attn=2)
    chosen = select_memories(_bank([0, 4, 7, 12], [5, 6, 8]), 9, rules)
    assert _numbers(chosen.memories) == [7, 12, 4, 5, 6, 8]
    assert chosen.memory_tpos == (6, 6, 4, 3, 2, 0)
    assert _pointers(chosen) == [7, 8, 6, 5, 4, 0]


def test_closest_prompts():
    entries = {i: memory_entry(i) for i in (0, 10, 20, 30, 40)}
    chosen, others = closest_conditioning(entries, 21, 3)
    assert list(chosen) == [20, 30, 10]
    assert list(others) == [0, 40]
    assert list(closest_conditioning(entries, 20, 2)[0]) == [10, 20]
    assert list(closest_conditioning(entries, 99, 2)[0]) == [40, 30]
    assert closest_conditioning(entries, 21, -1) == (entries, {})
    assert closest_conditioning(entries, 21, 5) == (entries, {})


# ---------------------------------------------------------------- properties of any bank
@given(memory_banks(FRAMES), tracking_rules(), st.integers(0, FRAMES), st.booleans())
def test_selection_is_bounded_and_ordered(bank, rules, frame, reverse):
    chosen = select_memories(bank, frame, rules, reverse=reverse, num_frames=FRAMES)
    count = len(bank.conditioning)
    if rules.max_cond_frames_in_attn != -1:
        count = min(count, rules.max_cond_frames_in_attn)
    assert len(chosen.memories) == len(chosen.memory_tpos) <= count + rules.num_maskmem - 1
    limit = min(rules.max_obj_ptrs_in_encoder, FRAMES)
    assert len(chosen.pointers) == len(chosen.pointer_tpos) <= count + limit - 1
    codes = list(chosen.memory_tpos)
    assert codes[:count] == [rules.num_maskmem - 1] * count
    recent = codes[count:]
    assert recent == sorted(set(recent), reverse=True)
    assert all(0 <= code < rules.num_maskmem - 1 for code in recent)
    assert len(set(_numbers(chosen.memories))) == len(chosen.memories)


@given(memory_banks(FRAMES), tracking_rules(), st.integers(0, FRAMES), st.booleans())
def test_recent_memories_lie_on_the_right_side(bank, rules, frame, reverse):
    chosen = select_memories(bank, frame, rules, reverse=reverse)
    selected, _ = closest_conditioning(bank.conditioning, frame, rules.max_cond_frames_in_attn)
    recent = _numbers(chosen.memories)[len(selected) :]
    ages = [(index - frame) if reverse else (frame - index) for index in recent]
    reach = rules.memory_temporal_stride_for_eval * (rules.num_maskmem - 1)
    assert all(0 < age <= reach for age in ages)
    assert ages == sorted(ages, reverse=True)


@given(memory_banks(FRAMES), tracking_rules(), st.integers(0, FRAMES), st.booleans())
def test_selection_does_not_change_the_bank(bank, rules, frame, reverse):
    before = copy.deepcopy(bank)
    select_memories(bank, frame, rules, reverse=reverse, num_frames=FRAMES)
    assert list(bank.conditioning) == list(before.conditioning)
    assert list(bank.tracked) == list(before.tracked)


# ---------------------------------------------------------------- forgetting
def _stream(
    rules: TrackingRules, prompted: set[int], frames: int, cap: int, bank: MemoryBank
) -> list[MemorySelection]:
    """Play a stream as the segmenter does and return what each frame attended to.

    Frames that were tracked come twice, for they may be corrected while they are the newest.
    """
    selections = []
    for index in range(frames):
        if index in prompted:
            bank.conditioning[index] = memory_entry(index)
        else:
            selections.append(select_memories(bank, index, rules))
            bank.tracked[index] = memory_entry(index)
        bank.forget(index, rules, cap)
        if index not in prompted:
            selections.append(select_memories(bank, index, rules))
    return selections


@given(tracking_rules(), st.sets(st.integers(1, 79), max_size=8))
def test_forgetting_changes_nothing_that_later_frames_see(rules, prompted):
    small, everything = MemoryBank(), MemoryBank()
    everything.forget = lambda *_: None
    got = _stream(rules, prompted | {0}, 80, 9, small)
    expected = _stream(rules, prompted | {0}, 80, 9, everything)
    assert [s.signature for s in got] == [s.signature for s in expected]
    assert [_numbers(s.memories) for s in got] == [_numbers(s.memories) for s in expected]
    assert [_pointers(s) for s in got] == [_pointers(s) for s in expected]


@given(tracking_rules(), st.sets(st.integers(1, 149), max_size=60), st.integers(1, 40))
def test_a_bank_is_bounded_under_endless_streams(rules, prompted, cap):
    bank = MemoryBank()
    _stream(rules, prompted | {0}, 150, cap, bank)
    reach = (rules.num_maskmem - 1) * rules.memory_temporal_stride_for_eval
    assert len(bank.tracked) <= max(reach, rules.max_obj_ptrs_in_encoder - 1) + 1
    with_memory = [e for e in bank.tracked.values() if e.memory is not None]
    assert len(with_memory) <= reach + 1
    given_prompts = sorted(prompted | {0})
    kept = given_prompts[:1] + given_prompts[1:][max(len(given_prompts) - cap, 0) :]
    assert sorted(bank.conditioning) == kept
    assert len(bank.conditioning) <= cap


@pytest.mark.parametrize("count", range(1, 40))
def test_prompted_frames_are_kept_up_to_the_cap(count):
    bank = _bank(list(range(count)), [])
    bank.forget(count, RULES, 32)
    expected = list(range(count)) if count <= 32 else [0, *range(count - 31, count)]
    assert list(bank.conditioning) == expected


def test_the_fifo_never_evicts_prompted_frames():
    bank = MemoryBank()
    _stream(RULES, {0, 3}, 500, 32, bank)
    assert list(bank.conditioning) == [0, 3]
    assert min(bank.tracked) == 500 - 16
    assert all(entry.memory is not None for entry in bank.conditioning.values())


def test_forgetting_leaves_entries_themselves_alone():
    bank = _bank([0], range(1, 10))
    old = bank.tracked[1]
    bank.forget(9, RULES, 32)
    assert bank.tracked[1].memory is None
    assert old.memory is not None


def test_get_finds_prompted_and_tracked_frames():
    bank = _bank([2], [3])
    assert bank.get(2) is bank.conditioning[2]
    assert bank.get(3) is bank.tracked[3]
    assert bank.get(4) is None


# ---------------------------------------------------------------- stacking
def test_stacked_inputs_keep_objects_and_order():
    selections = [
        select_memories(MemoryBank({0: memory_entry(n)}, {1: memory_entry(n + 1)}), 2, RULES)
        for n in (10, 20, 30)
    ]
    inputs = stack_memories(selections, POINTER_WIDTH)
    assert inputs["memory"].shape == (3, 2, 2, 1, 1)
    assert inputs["memory"][:, :, 0, 0, 0].tolist() == [[10, 11], [20, 21], [30, 31]]
    assert inputs["pointers"][:, :, 0].tolist() == [[10, 11], [20, 21], [30, 31]]
    assert inputs["memory_tpos"].tolist() == [6, 0]
    assert {key: str(value.dtype) for key, value in inputs.items()} == {
        "memory": "float32", "memory_tpos": "int64",
        "pointers": "float32", "pointer_tpos": "float32",
    }  # fmt: skip


def test_no_pointers_make_an_empty_array_of_the_right_width():
    selection = select_memories(_bank([5], []), 2, RULES)
    assert selection.pointers == ()
    assert stack_memories([selection], POINTER_WIDTH)["pointers"].shape == (1, 0, POINTER_WIDTH)
