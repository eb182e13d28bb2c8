"""Batch k depends on the seed and on k alone."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from qsam2_deploy.data.sample import Clip
from qsam2_deploy.errors import InputError, VideoError
from qsam2_deploy.training.config import ImageBatches, Stage, TrainConfig
from qsam2_deploy.training.inputs.loader import StageClips, batches
from tests.training.small import GENERATED, SIZE

FIRST = Stage("first", steps=4, frames=1, clips=2, image_size=32)
STAGE = Stage(
    "second", steps=6, frames=2, clips=4, image_size=32, data={"a": 3.0, "b": 1.0}, easy=(1.0, 0.5)
)
CONFIG = TrainConfig(stages=(FIRST, STAGE))


class Numbered:
    """Clips that show their own number, and with the third channel their source."""

    def __init__(self, mark):
        self.mark = mark

    def clip(self, index, *, frames, size):
        images = np.zeros((frames, size, size, 3), np.uint8)
        images[..., 0], images[..., 1], images[..., 2] = index % 256, index // 256, self.mark
        return Clip(images, np.ones((frames, 1, size, size), bool), f"{self.mark}/{index}")


SOURCES = {"a": Numbered(1), "b": Numbered(2)}


def names(**arguments):
    clips = StageClips(SOURCES, CONFIG, 1, **arguments)
    return [clips[i].name for i in range(len(clips))]


def test_every_clip_is_new():
    numbers = [int(name.split("/")[1]) for name in names()]
    # After those of the first stage, each once.
    assert numbers == list(range(FIRST.steps * FIRST.clips, 8 + STAGE.steps * STAGE.clips))


def test_a_resumed_run_goes_on_with_the_same_clips():
    for step in range(STAGE.steps + 1):
        assert names(first_step=step) == names()[step * STAGE.clips :]


def test_processes_share_each_batch():
    one = names()
    two = [names(rank=rank, world_size=2) for rank in range(2)]
    for step in range(STAGE.steps):
        shared = [name for mine in two for name in mine[2 * step : 2 * step + 2]]
        assert shared == one[4 * step : 4 * step + 4]
    assert names(rank=1, world_size=2, first_step=3) == two[1][6:]


def test_shares_of_a_batch_may_differ_by_one():
    three = [names(rank=rank, world_size=3) for rank in range(3)]
    counts = [len(mine) // STAGE.steps for mine in three]
    assert sorted(counts) == [1, 1, 2]
    for step in range(STAGE.steps):
        shared = [
            name
            for mine, count in zip(three, counts, strict=True)
            for name in mine[count * step : count * (step + 1)]
        ]
        assert shared == names()[4 * step : 4 * step + 4]


def test_shares_follow_the_weights():
    stage = replace(STAGE, steps=500)
    clips = StageClips(SOURCES, TrainConfig(stages=(stage,)), 0)
    counts = Counter(clips[i].name[0] for i in range(len(clips)))
    assert counts["1"] / 2000 == pytest.approx(0.75, abs=0.03)
    assert counts["2"] / 2000 == pytest.approx(0.25, abs=0.03)


def test_the_seed_changes_the_choice():
    other = StageClips(SOURCES, replace(CONFIG, seed=1), 1)
    assert [other[i].name[0] for i in range(len(other))] != [name[0] for name in names()]


@dataclass
class EasyNumbered:
    shares: list = field(default_factory=list)

    def with_shares(self, *, easy, hidden):
        assert hidden == 0.25
        self.shares.append(easy)
        return Numbered(0)

    def clip(self, index, *, frames, size):
        raise AssertionError("the share of easy clips was ignored")


def test_easy_schedule():
    source = EasyNumbered()
    stage = replace(STAGE, data={"a": 1.0}, steps=5, hidden=0.25)
    clips = StageClips({"a": source}, TrainConfig(stages=(stage,)), 0)
    for index in range(len(clips)):
        assert clips[index].name
    assert source.shares == pytest.approx(np.repeat(np.linspace(1.0, 0.5, 5), STAGE.clips))


def test_sources_without_weight_are_not_needed():
    stage = replace(STAGE, data={"a": 1.0, "none": 0.0})
    assert StageClips(SOURCES, TrainConfig(stages=(stage,)), 0)[0].name.startswith("1/")


def test_missing_source():
    stage = replace(STAGE, data={"videos": 1.0})
    with pytest.raises(InputError, match=r"stage second trains on 'videos', but .* only a, b in"):
        StageClips(SOURCES, TrainConfig(stages=(stage,)), 0)


def test_a_batch_of_fewer_clips_than_processes():
    with pytest.raises(InputError, match=r"4 clips .* 5 processes; use at most 4"):
        names(rank=0, world_size=5)


def test_batches():
    found = list(batches(StageClips(SOURCES, CONFIG, 1, first_step=4)))
    assert len(found) == 2
    batch = found[0]
    assert (batch.frame_count, batch.clip_count) == (2, 4)
    assert batch.images.shape == (8, 3, 32, 32)
    assert batch.masks.shape == (2, 4, 32, 32)
    # Frame t of clip b is at t * B + b, and red holds the number of the clip.
    red = batch.images[:, 0, 0, 0] * 0.229 + 0.485
    assert (red * 255).round().int().tolist() == [24, 25, 26, 27] * 2
    assert batch.images_of(1).tolist() == [4, 5, 6, 7]


def test_at_most_the_objects_of_the_stage():
    stage = Stage("s", steps=3, frames=1, clips=3, image_size=SIZE, objects=1)
    config = TrainConfig(stages=(stage,))
    wide = TrainConfig(stages=(replace(stage, objects=3),))
    few = [b.clip_of.tolist() for b in batches(StageClips({"generated": GENERATED}, config, 0))]
    many = [b.clip_of.tolist() for b in batches(StageClips({"generated": GENERATED}, wide, 0))]
    assert few == [[0, 1, 2]] * 3
    assert sum(map(len, many)) > 9
    assert all(clip_of == sorted(clip_of) for clip_of in many)


class Broken:
    def clip(self, index, *, frames, size):
        raise VideoError("the frame x.jpg is damaged; replace it")


def test_workers_make_the_same_clips():
    """And their errors are one sentence, as without them."""
    alone = list(batches(StageClips(SOURCES, CONFIG, 1, first_step=4)))
    helped = list(batches(StageClips(SOURCES, CONFIG, 1, first_step=4), workers=1))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
    stage = replace(STAGE, data={"a": 1.0})
    for workers in (0, 1):
        clips = StageClips({"a": Broken()}, TrainConfig(stages=(stage,)), 0)
        with pytest.raises(VideoError, match=r"^the frame x.jpg is damaged; replace it$"):
            list(batches(clips, workers=workers))


MIXED = replace(STAGE, images=ImageBatches(every=3, clips=5, objects=2))


def batch_contents(**arguments):
    """Frames and clip numbers of each batch."""
    config = TrainConfig(stages=(FIRST, MIXED, STAGE))
    clips = StageClips(SOURCES, config, 1, **arguments)
    return [
        (batch.frame_count, [int(name.split("/")[1]) for name in batch.names])
        for batch in batches(clips)
    ]


def test_images_between_clips():
    found = batch_contents()
    assert [frames for frames, _ in found] == [2, 2, 1, 2, 2, 1]
    assert [len(names) for _, names in found] == [4, 4, 5, 4, 4, 5]
    numbers = [number for _, names in found for number in names]
    assert numbers == list(range(8, 8 + 26))
    after = StageClips(SOURCES, TrainConfig(stages=(FIRST, MIXED, STAGE)), 2)
    assert after[0].name.endswith(f"/{8 + 26}")


def test_images_between_clips_are_resumed_and_shared():
    whole = batch_contents()
    for step in range(MIXED.steps):
        assert batch_contents(first_step=step) == whole[step:]
    two = [batch_contents(rank=rank, world_size=2) for rank in range(2)]
    for (frames, names), (first, mine), (second, other) in zip(whole, *two, strict=True):
        assert frames == first == second
        assert mine + other == names


def test_images_have_their_own_number_of_objects():
    clips = StageClips(SOURCES, TrainConfig(stages=(replace(MIXED, objects=4),)), 0)
    assert (clips.most_objects(2), clips.most_objects(1)) == (4, 2)
    assert [len(clip.frames) for clip in clips.first(3)] == [2, 2, 2]
    assert [len(clip.frames) for clip in clips.first(9, images=True)] == [1] * 9


def test_too_few_images_for_the_processes():
    config = TrainConfig(stages=(replace(MIXED, images=ImageBatches(2, 3)),))
    with pytest.raises(InputError, match=r"a batch of 3 images .stage second. cannot be shared"):
        StageClips(SOURCES, config, 0, world_size=4)


def test_sources_without_data_can_be_left_out():
    config = TrainConfig(stages=(replace(STAGE, data={"a": 1.0, "c": 5.0}),))
    with pytest.raises(InputError, match="trains on 'c', but no such data was given"):
        StageClips(SOURCES, config, 0)
    lenient = replace(config, skip_missing_data=True)
    clips = StageClips(SOURCES, lenient, 0)
    assert clips.names == ("a",)
    assert all(clips[i].name.startswith("1/") for i in range(len(clips)))
    with pytest.raises(InputError, match="trains on 'a', but no such data was given"):
        StageClips({"b": SOURCES["b"]}, lenient, 0)
