"""Tracked frames of which most wait on disk are what they were."""

from dataclasses import replace

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError
from qsam2_deploy.spec import TrackingRules
from qsam2_deploy.tracking.memory import HostMemories, MemoryBank, MemoryEntry, select_memories
from qsam2_deploy.tracking.spill_file import SpillFile
from qsam2_deploy.tracking.spilled_frames import SpilledFrames, frames_in_reach

IN_MEMORY = 4


def entry(index: int) -> MemoryEntry:
    rng = np.random.default_rng(index)
    logits = rng.standard_normal((8, 8)).astype(np.float32)
    memory = rng.integers(0, 2**16, (4, 2, 2)).astype(np.uint16)
    pointer = rng.standard_normal(6).astype(np.float32)
    return MemoryEntry(logits, pointer, float(rng.normal()), None if index % 5 == 0 else memory)


def same(a: MemoryEntry, b: MemoryEntry) -> bool:
    fields = ("mask_logits", "pointer", "memory", "object_score")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


@pytest.fixture
def frames(tmp_path) -> SpilledFrames:
    return SpilledFrames(SpillFile(tmp_path), HostMemories(), IN_MEMORY)


def test_it_is_a_dictionary(frames):
    expected: dict[int, MemoryEntry] = {}
    rng = np.random.default_rng(0)
    for _ in range(600):
        index, what = int(rng.integers(40)), rng.integers(4)
        if what < 2:
            frames[index] = expected[index] = entry(int(rng.integers(1000)))
        elif what == 2:
            found, wanted = frames.get(index), expected.get(index)
            assert (found is None) == (wanted is None)
            assert found is None or same(found, wanted)
        else:
            assert (frames.pop(index, None) is None) == (expected.pop(index, None) is None)
        assert list(frames) == sorted(expected)
        assert len(frames) == len(expected)
        assert (index in frames) == (index in expected)
    assert len(expected) > 2 * IN_MEMORY
    assert all(same(frames[index], wanted) for index, wanted in expected.items())
    with pytest.raises(KeyError):
        frames[1000]
    with pytest.raises(KeyError):
        del frames[1000]


def test_few_are_in_memory_and_none_is_written_twice(frames, monkeypatch):
    written = []
    write = SpillFile.write
    monkeypatch.setattr(SpillFile, "write", lambda f, a: written.append(1) or write(f, a))
    for index in range(20):
        frames[index] = entry(index)
    assert len(written) == 20 - IN_MEMORY
    for _ in range(3):
        for index in range(20):
            assert same(frames[index], entry(index))
    assert len(frames._recent) == IN_MEMORY
    assert len(written) == 20


def test_a_disk_that_fails_loses_nothing(frames, monkeypatch):
    for index in range(IN_MEMORY):
        frames[index] = entry(index)

    def full(*_: object) -> None:
        raise EngineError("full")

    with monkeypatch.context() as patch:
        patch.setattr(SpillFile, "write", full)
        with pytest.raises(EngineError):
            frames[10] = entry(10)
    frames[11] = entry(11)
    assert all(same(frames[index], entry(index)) for index in (0, 1, 2, 3, 10, 11))


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_the_next_frame_attends_to_is_in_memory(tmp_path, monkeypatch, stride, reverse):
    rules = replace(TrackingRules(), memory_temporal_stride_for_eval=stride)
    tracked = SpilledFrames(SpillFile(tmp_path), HostMemories(), frames_in_reach(rules))
    bank = MemoryBank({0 if not reverse else 99: entry(1)}, tracked)
    read = []
    of_file = SpillFile.read
    monkeypatch.setattr(SpillFile, "read", lambda f, r: read.append(1) or of_file(r))
    order = range(98, -1, -1) if reverse else range(1, 100)
    for index in order:
        selection = select_memories(bank, index, rules, reverse=reverse, num_frames=100)
        tracked[index] = entry(4)
    assert len(selection.memories) == rules.num_maskmem
    assert read == []
    assert len(tracked) == 99
