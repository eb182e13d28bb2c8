"""Frames without labels."""

import numpy as np
import pytest

from qsam2_deploy.data.clips import unlabelled
from qsam2_deploy.data.clips.unlabelled import (
    UnlabelledClips,
    UnlabelledConfig,
    unlabelled_sequence,
)
from qsam2_deploy.errors import InputError, VideoError
from tests.data.datasets import HEIGHT, WIDTH, frame, write_frames


@pytest.fixture
def folder(tmp_path):
    write_frames(tmp_path / "street", [None] * 5)
    return tmp_path / "street"


def test_a_folder_of_frames(folder):
    sequence = unlabelled_sequence(folder)
    assert (sequence.name, sequence.frame_count) == ("street", 5)
    assert sequence.size == (HEIGHT, WIDTH)
    assert sequence.annotated == (0, 1, 2, 3, 4)
    right, wrong = (np.abs(sequence.frame(3).astype(int) - frame(n)).mean() for n in (3, 2))
    assert right < 20 < wrong  # JPEG spoils noise
    assert sequence.masks(0)[1].all()


def test_a_video_in_any_order(tmp_path):
    pytest.importorskip("av")
    from tests.support.media_samples import frame_number, write_video

    sequence = unlabelled_sequence(write_video(tmp_path / "v.mp4", 8))
    assert (sequence.name, sequence.frame_count) == ("v.mp4", 8)
    for index in (2, 5, 7, 0, 3, 3, 1):
        assert sequence.frame(index).shape == (HEIGHT, WIDTH, 3)
        assert frame_number(sequence.frame(index)) == index
    with pytest.raises(VideoError, match=r"v.mp4 ends before its frame 8; it may be damaged"):
        sequence.frame(8)


def test_long_videos_are_thinned_out(folder, monkeypatch):
    monkeypatch.setattr(unlabelled, "_MOST_FRAMES", 3)
    assert unlabelled_sequence(folder).annotated == (0, 2, 4)


def test_clips_have_rectangles_that_stay(folder):
    config = UnlabelledConfig(seed=3, max_objects=2)
    clips = UnlabelledClips([unlabelled_sequence(folder)], config)
    clip = clips.clip(4, frames=3, size=32)
    assert not clip.labelled
    assert clip.name == "unlabelled street"
    assert clip.frames.shape == (3, 32, 32, 3)
    assert clip.masks.shape == (3, 2, 32, 32)
    assert clip.masks[0].any((1, 2)).all()
    assert (clip.masks == clip.masks[:1]).all()
    again = UnlabelledClips([unlabelled_sequence(folder)], config).clip(4, frames=3, size=32)
    assert np.array_equal(clip.frames, again.frames)
    assert np.array_equal(clip.masks, again.masks)
    assert not np.array_equal(clip.masks, clips.clip(5, frames=3, size=32).masks)


def test_nothing_usable(tmp_path, folder):
    with pytest.raises(VideoError, match=r"there is no video .*none.mp4"):
        unlabelled_sequence(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match=r"no images found in .*empty"):
        unlabelled_sequence(tmp_path / "empty")
    pytest.importorskip("av")
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 50)
    with pytest.raises(VideoError, match=r"cannot read .*junk.mp4 as a video"):
        unlabelled_sequence(tmp_path / "junk.mp4")
    with pytest.raises(InputError, match="max_stride must be a whole number of at least 1"):
        UnlabelledConfig(max_stride=0)
