import numpy as np
import pytest

pytest.importorskip("cv2")

from qsam2_deploy.data.cache import SequenceCache
from qsam2_deploy.data.changes.augment import AugmentConfig
from qsam2_deploy.data.clips.pasted import PastedClips, PastedClipsConfig
from qsam2_deploy.errors import InputError

from .fake_sequences import FlatSequence, assert_objects_are_hidden

SEQUENCES = (FlatSequence("a"), FlatSequence("b", size=(80, 80)), FlatSequence("c", frame_count=1))


def shrunk(masks):
    """[H, W] masks without the pixels at their edge."""
    padded = np.pad(masks, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return windows.all((-1, -2))


def test_masks_are_exactly_the_visible_objects():
    config = PastedClipsConfig(
        max_objects=10, keep=1.0, occluder=0.0, min_area=0.0,
        augment=AugmentConfig(colour=0.0, spoil=0.0, whole_frame=1.0, rotation=0.0),
    )  # fmt: skip
    source = PastedClips(SEQUENCES, config)
    areas = []
    for index in range(25):
        clip = source.clip(index, frames=1, size=96)
        mask, red = clip.masks[0].any(0), clip.frames[0, ..., 0]
        for own in clip.masks[0]:
            assert (red[shrunk(shrunk(own))] > 100).all()
        assert not mask[shrunk(red < 100)].any()
        assert clip.masks[0].sum(0).max() <= 1
        areas.append(mask.mean())
    assert 0.05 < np.mean(areas) < 0.9


def test_same_clip_again():
    cache = SequenceCache(SEQUENCES)
    first, second = PastedClips(cache), PastedClips(cache)
    first.clip(8, frames=2, size=32)
    for index in range(4):
        one, two = (s.clip(index, frames=4, size=64) for s in (first, second))
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.masks, two.masks)


def test_every_object_is_visible_in_the_first_frame():
    source = PastedClips(SEQUENCES)
    for index in range(25):
        clip = source.clip(index, frames=3, size=64)
        assert 1 <= clip.masks.shape[1] <= 3
        assert (clip.masks[0].mean((1, 2)) >= 0.004).all()


def test_objects_move():
    source = PastedClips(SEQUENCES)
    moved = [
        (clip.masks[0] != clip.masks[-1]).any() for clip in (
            source.clip(i, frames=5, size=64) for i in range(12)
        )
    ]  # fmt: skip
    assert np.mean(moved) > 0.8


def test_one_sequence_is_enough():
    clip = PastedClips(SEQUENCES[:1]).clip(0, frames=2, size=48)
    assert clip.frames.shape == (2, 48, 48, 3)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"twin must be within 0 .. 1, but is 1.2"):
        PastedClipsConfig(twin=1.2)


def test_objects_are_hidden_for_some_frames():
    source = PastedClips(SEQUENCES, PastedClipsConfig(hidden=1.0))
    assert_objects_are_hidden(source)
