import numpy as np
import pytest

pytest.importorskip("cv2")

from qsam2_deploy.data.cache import SequenceCache
from qsam2_deploy.data.changes.augment import AugmentConfig
from qsam2_deploy.data.clips.windows import SequenceWindows, SequenceWindowsConfig, random_window
from qsam2_deploy.errors import InputError, VideoError

from .fake_sequences import FlatSequence, assert_objects_are_hidden, shows_object

GEOMETRY_ONLY = AugmentConfig(colour=0.0, spoil=0.0)


def test_masks_follow_the_frames():
    config = SequenceWindowsConfig(augment=GEOMETRY_ONLY)
    source = SequenceWindows([FlatSequence()], config)
    for index in range(30):
        clip = source.clip(index, frames=3, size=(64, 48, 200)[index % 3])
        beyond = clip.frames[..., 1] > 10  # grey, where the sequence ends
        inside, outside = shows_object(clip.frames)
        mask = clip.masks.any(1)
        assert mask[0].any()
        assert mask[inside & ~beyond].all()
        assert not mask[outside].any()


def test_same_clip_again_and_from_a_shared_cache():
    sequences = [FlatSequence("a"), FlatSequence("b", size=(60, 60))]
    cache = SequenceCache(sequences)
    first, second = SequenceWindows(sequences), SequenceWindows(cache)
    for index in (3, 0):
        one, two = (s.clip(index, frames=4, size=40) for s in (first, second))
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.masks, two.masks)


def test_objects_absent_from_the_first_frame_are_dropped():
    source = SequenceWindows(
        [FlatSequence(object_ids=(1, 6))], SequenceWindowsConfig(reverse=0.0, augment=GEOMETRY_ONLY)
    )
    counts = set()
    for index in range(40):
        clip = source.clip(index, frames=2, size=48)
        counts.add(clip.masks.shape[1])
        assert clip.masks[0].any((1, 2)).all()
    assert counts == {1, 2}


def test_no_more_than_max_objects():
    source = SequenceWindows(
        [FlatSequence(object_ids=(1, 2, 3))], SequenceWindowsConfig(max_objects=2)
    )
    assert max(source.clip(i, frames=1, size=48).masks.shape[1] for i in range(15)) == 2


def test_window_has_one_stride_in_either_direction():
    sequence = SequenceCache([FlatSequence(frame_count=30)], 90).sequence(0)
    order = {id(frame.image): i for i, frame in enumerate(sequence.frames(range(30)))}
    rng, strides = np.random.default_rng(0), set()
    for _ in range(60):
        window = random_window(rng, sequence, 4, 3, 0.5)
        steps = np.diff([order[id(frame.image)] for frame in window])
        if len(set(steps.tolist())) == 1:  # others are reflected at an end
            strides.add(int(steps[0]))
    assert strides == {-3, -2, -1, 1, 2, 3}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sequence_shorter_than_the_clip(count):
    clip = SequenceWindows([FlatSequence(frame_count=count)]).clip(0, frames=7, size=32)
    assert clip.frames.shape == (7, 32, 32, 3)


def test_only_annotated_frames_are_read():
    sequence = SequenceCache([FlatSequence(frame_count=12, step=4)], 45).sequence(0)
    assert len(sequence) == 3
    first, *_ = sequence.frames(range(3))  # FlatSequence itself refuses frames between them
    assert first.image.shape == (45, 80, 3)
    assert 0.4 * 15 * 11 < first.objects[1].area < 1.5 * 15 * 11


def test_nothing_to_read_is_refused():
    with pytest.raises(InputError, match="no annotated sequences were given"):
        SequenceWindows([])
    with pytest.raises(InputError, match="no object is annotated in any of the 1 sequences"):
        SequenceWindows([FlatSequence(object_ids=())]).clip(0, frames=1, size=32)


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (SequenceWindowsConfig, {"max_stride": 0}, "max_stride must be a whole number of at"),
        (SequenceWindowsConfig, {"reverse": 2.0}, "reverse must be within 0 .. 1, but is 2"),
        (AugmentConfig, {"crop": (0.0, 1.0)}, "crop must be two numbers, 0 < smallest"),
        (AugmentConfig, {"rotation": -1.0}, "rotation must be within 0 .. 180"),
    ],
)
def test_bad_settings_are_refused(make, values, message):
    with pytest.raises(InputError, match=message):
        make(**values)


def test_objects_are_hidden_for_some_frames():
    sequences = [FlatSequence("a"), FlatSequence("b", size=(80, 80))]
    source = SequenceWindows(sequences, SequenceWindowsConfig(hidden=1.0))
    assert_objects_are_hidden(source)


def test_objects_that_are_always_too_small():
    sequence = FlatSequence(size=(720, 1280))  # 22 x 30 of 1280 x 720 pixels
    views = AugmentConfig(whole_frame=1.0, rotation=0.0)
    source = SequenceWindows([sequence], SequenceWindowsConfig(min_area=0.05, augment=views))
    with pytest.raises(VideoError, match=r"none of 500 random clips shows .* lower min_area"):
        source.clip(0, frames=1, size=16)
