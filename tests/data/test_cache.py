"""Frames are read when needed, a bounded number of bytes stays, and clips never depend on it."""

from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("cv2")

from qsam2_deploy.data.byte_cache import ByteCache
from qsam2_deploy.data.cache import SequenceCache
from qsam2_deploy.data.clips.pasted import PastedClips
from qsam2_deploy.data.clips.windows import SequenceWindows
from qsam2_deploy.data.datasets.photos import Photos
from qsam2_deploy.data.generated.clips import GeneratedClips
from qsam2_deploy.data.generated.config import GeneratedClipsConfig

from .fake_sequences import FlatSequence

FRAME_BYTES = 90 * 160 * 3


@dataclass(frozen=True)
class Counting(FlatSequence):
    """Counts what is read, and how often it is released."""

    read: list = field(default_factory=list)
    released: list = field(default_factory=list)

    def frame(self, index):
        self.read.append(index)
        return super().frame(index)

    def release(self):
        self.released.append(len(self.read))


def sequences():
    shapes = {"a": (90, 160), "b": (80, 80), "empty": (64, 64), "c": (90, 90)}
    return [
        FlatSequence(name, size=size, object_ids=() if name == "empty" else (1, 4))
        for name, size in shapes.items()
    ]


def test_least_recently_used_goes_first():
    cache, made = ByteCache(10), []

    def get(key, size=4):
        return cache.get(key, lambda: made.append(key) or key.upper(), lambda _: size)

    assert [get(key) for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]  # c pushed b out, because a had been used since
    assert (len(cache), cache.used) == (2, 8)
    assert get("d", 50) == "D"
    assert (len(cache), cache.used) == (1, 50)  # larger than the limit, but in use now


def test_a_value_that_cannot_be_made_is_not_kept():
    cache = ByteCache(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0, lambda _: 1)
    assert cache.get("a", lambda: 3, lambda _: 1) == 3


@pytest.mark.parametrize("kind", [SequenceWindows, PastedClips])
def test_clips_do_not_depend_on_what_is_kept(kind):
    roomy, tight = SequenceCache(sequences()), SequenceCache(sequences(), limit=1)
    first, second = kind(roomy), kind(tight)
    second.clip(9, frames=2, size=32)  # another history
    for index in (5, 1, 5, 0):
        one, two = (source.clip(index, frames=4, size=40) for source in (first, second))
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.masks, two.masks)
    assert len(roomy.held) > 20
    assert len(tight.held) == 1


def test_only_the_frames_of_the_window_are_read_and_the_memory_is_bounded():
    many = [Counting(str(number), frame_count=40) for number in range(6)]
    limit = 8 * FRAME_BYTES
    cache = SequenceCache(many, limit=limit)
    source = SequenceWindows(cache)
    source.clip(0, frames=3, size=32)
    assert sum(len(sequence.read) for sequence in many) == 3
    for index in range(1, 25):
        source.clip(index, frames=3, size=32)
        assert cache.held.used <= limit
    for sequence in many:
        assert sequence.released[-1] == len(sequence.read)  # nothing is left open


def test_frames_are_read_forwards_and_once():
    sequence = Counting(frame_count=9)
    frames = SequenceCache([sequence]).sequence(0).frames([5, 3, 1, 3])
    assert sequence.read == [1, 3, 5]
    assert frames[1].image is frames[3].image
    assert frames[0].objects[1].x0 > frames[1].objects[1].x0 > frames[2].objects[1].x0


def test_a_sequence_without_objects_is_never_picked():
    cache, rng = SequenceCache(sequences()), np.random.default_rng(0)
    assert {cache.pick(rng) for _ in range(60)} == {0, 1, 3}
    assert {cache.pick(rng, other_than=1) for _ in range(60)} == {0, 3}
    lonely = SequenceCache([sequences()[2], FlatSequence()])
    assert {lonely.pick(rng, other_than=1) for _ in range(9)} == {1}


def test_what_is_drawn_does_not_depend_on_what_was_looked_at():
    fresh = [SequenceCache(sequences()).pick(np.random.default_rng(i)) for i in range(20)]
    cache = SequenceCache(sequences())
    assert [cache.pick(np.random.default_rng(i)) for i in range(20)] == fresh


def test_photos_are_read_when_they_are_looked_at():
    sequence = Counting(frame_count=12)
    photos = Photos([sequence, FlatSequence(frame_count=2)], limit=2 * FRAME_BYTES)
    assert len(photos) == 5 + 2
    assert sequence.read == []
    np.testing.assert_array_equal(photos[4], FlatSequence().frame(11))
    assert sequence.read == [11]
    for number in (4, 0, 4, 0):
        _ = photos[number]
    assert sequence.read == [11, 0]
    assert [photo.shape for photo in photos[:6]] == [(90, 160, 3)] * 6
    assert sequence.read == [11, 0, 2, 5, 8, 11]
    with pytest.raises(IndexError):
        _ = photos[7]


def test_clips_with_lazy_photos_are_those_with_eager_ones():
    config = GeneratedClipsConfig(textures=4, photo_share=0.9)
    photos = Photos([FlatSequence(), FlatSequence(size=(50, 50))], limit=1)
    lazy, eager = GeneratedClips(config, photos), GeneratedClips(config, list(photos))
    for index in (2, 0):
        one, two = (source.clip(index, frames=2, size=48) for source in (lazy, eager))
        np.testing.assert_array_equal(one.frames, two.frames)
