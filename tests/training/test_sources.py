"""The sources of clips that a recipe can name."""

import pytest

from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.training.inputs.sources import clip_sources, settings_from_mapping
from tests.data.datasets import moving, write_davis

SETTINGS = {"generated": {"textures": 4}}


def settings():
    return settings_from_mapping(SETTINGS, seed=0, where="recipe")


def test_without_videos_clips_are_generated():
    assert list(clip_sources(settings(), [])) == ["generated", "regions"]


@pytest.fixture
def sequences(tmp_path):
    return davis_sequences(write_davis(tmp_path, {"a": moving(6), "b": moving(4)}), None)


def test_with_videos(sequences):
    sources = clip_sources(settings(), sequences)
    assert list(sources) == ["generated", "videos", "pasted", "regions"]
    assert sources.pop("regions").clip(3, frames=1, size=64).masks.any()
    for source in sources.values():
        clip = source.clip(3, frames=2, size=64)
        assert clip.frames.shape == (2, 64, 64, 3)
        assert clip.masks[0].any((1, 2)).all()


def test_frames_of_videos_serve_as_textures(sequences, monkeypatch):
    taken = []
    monkeypatch.setattr(
        "qsam2_deploy.training.inputs.sources.GeneratedClips",
        lambda config, photos: taken.append((config, photos)),
    )
    clip_sources(settings(), sequences)
    ((config, photos),) = taken
    assert config.textures == 4
    assert len(photos) == len(list(photos)) == 5 + 4  # at most five of a video, each once
    assert all(photo.shape == (48, 64, 3) for photo in photos)
