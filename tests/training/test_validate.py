"""Scores while training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qsam2_deploy.data.generated.config import GeneratedClipsConfig
from qsam2_deploy.data.sample import Clip
from qsam2_deploy.errors import InputError
from qsam2_deploy.training.run import validate
from qsam2_deploy.training.run.validate import (
    ClipValidation,
    Validations,
    generated_validation,
    track_clip,
    whole_clip,
)
from tests.data.fake_sequences import FlatSequence
from tests.training.small import CPU, SIZE, generated_clips, lively_model, square_clip


class Stub(nn.Linear):
    """Has parameters, as a model must."""

    def __init__(self):
        super().__init__(1, 1)


def answers(monkeypatch, change):
    """Let the model give the truth, changed; return the kinds of prompts asked for."""
    asked = []

    def track(model, clip, kind, device):
        asked.append((kind, len(clip.frames)))
        return torch.from_numpy(change(clip.masks.copy()))

    monkeypatch.setattr(validate, "track_clip", track)
    return asked


def test_the_truth_scores_a_hundred(monkeypatch):
    asked = answers(monkeypatch, lambda masks: masks)
    scores = ClipValidation(generated_clips(2, frames=4))(Stub())
    assert scores == {"J&F": 100.0, "J&F click": 100.0, "IoU box": 100.0}
    assert asked == [("mask", 4)] * 2 + [("click", 4)] * 2 + [("box", 1)] * 2


def test_nothing_scores_zero(monkeypatch):
    answers(monkeypatch, lambda masks: masks & False)
    assert ClipValidation([square_clip(4)])(Stub()) == {
        "J&F": 0.0, "J&F click": 0.0, "IoU box": 0.0,
    }  # fmt: skip


def test_a_shift_costs_some(monkeypatch):
    clip = square_clip(4)
    side = SIZE // 3
    scores = []
    for shift in (1, 6):
        answers(monkeypatch, lambda masks, shift=shift: np.roll(masks, shift, -1))
        scores.append(ClipValidation([clip])(Stub()))
    iou = [100 * (side - shift) / (side + shift) for shift in (1, 6)]
    assert [s["IoU box"] for s in scores] == pytest.approx(iou)
    assert 100 > scores[0]["J&F"] >= iou[0]
    assert iou[0] > scores[1]["J&F"] > 20


def test_the_first_and_last_frames_do_not_count(monkeypatch):
    """The first holds the prompt; DAVIS leaves out the last too."""

    def spoil(masks):
        masks[[0, -1]] = False
        return masks

    answers(monkeypatch, spoil)
    assert ClipValidation([square_clip(5)])(Stub())["J&F"] == 100.0


def test_objects_weigh_the_same(monkeypatch):
    three = np.repeat(square_clip(3).masks, 3, 1)
    clips = [square_clip(3), Clip(square_clip(3).frames, three)]

    def first_object_only(masks):
        masks[:, 1:] = False
        return masks

    answers(monkeypatch, first_object_only)
    assert ClipValidation(clips)(Stub())["J&F"] == pytest.approx(50.0)  # two of four objects


def test_several(monkeypatch):
    answers(monkeypatch, lambda masks: masks)
    one = ClipValidation([square_clip(3)])
    scores = Validations({"generated": one, "videos": one})(Stub())
    assert len(scores) == 6
    assert scores["videos J&F click"] == 100.0


@pytest.fixture(scope="module")
def model():
    return lively_model().eval()


@pytest.mark.parametrize("kind", ["mask", "click", "box"])
def test_tracking(model, kind):
    clip = generated_clips(1, frames=3)[0]
    found = track_clip(model, clip, kind, CPU.device)
    assert found.dtype == torch.bool
    assert found.shape == clip.masks.shape
    if kind == "mask":  # a mask prompt is taken as it is
        assert torch.equal(found[0], torch.from_numpy(clip.masks[0]))
    assert torch.equal(found, track_clip(model, clip, kind, CPU.device))


def test_tracking_equals_the_official_predictor(model):
    """Frame by frame, with the predictor's own state for each object."""
    clip = square_clip(4)
    found = track_clip(model, clip, "mask", CPU.device)
    frames = torch.from_numpy(clip.frames).float().permute(0, 3, 1, 2) / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sam2.sam2_video_predictor.load_video_frames",
            lambda **options: ((frames - mean) / std, SIZE, SIZE),
        )
        state = model.init_state("none")
    model.add_new_mask(state, 0, 1, torch.from_numpy(clip.masks[0, 0]))
    official = [logits[:, 0] > 0 for _, _, logits in model.propagate_in_video(state)]
    different = (torch.stack(official)[1:] != found[1:]).float().mean()
    assert 0.01 < found[1:].float().mean() < 0.99
    assert different < 0.002


def test_old_memories_are_of_no_use(model, monkeypatch):
    """Dropping them bounds memory on long clips and must not change a mask."""
    short = square_clip(3)
    clip = Clip(np.concatenate([short.frames] * 8), np.concatenate([short.masks] * 8))
    found = track_clip(model, clip, "mask", CPU.device)
    monkeypatch.setattr(validate, "_MEMORY_FRAMES", 1000)
    assert torch.equal(found, track_clip(model, clip, "mask", CPU.device))


def test_generated_validation_is_held_out():
    config = GeneratedClipsConfig(textures=4, easy=0.5)
    one = generated_validation(config, SIZE, count=2, frames=2)
    again = generated_validation(replace(config, easy=1.0), SIZE, count=2, frames=2)
    assert [clip.frames.shape for clip in one.clips] == [(2, SIZE, SIZE, 3)] * 2
    for clip, other in zip(one.clips, again.clips, strict=True):
        assert np.array_equal(clip.frames, other.frames)
    trained = generated_clips(2, frames=2)
    assert not np.array_equal(one.clips[0].frames, trained[0].frames)


def test_whole_clip():
    sequence = FlatSequence(frame_count=12, object_ids=(1, 2), step=2)
    clip = whole_clip(sequence, SIZE, most=4)
    # Object 2 enters in frame 1 and is not scored.
    assert clip.masks.shape == (4, 1, SIZE, SIZE)
    assert clip.name == "flat"
    for place, index in enumerate((0, 2, 4, 6)):
        assert clip.masks[place].mean() == pytest.approx(sequence.masks(index)[1].mean(), rel=0.1)
        red = clip.frames[place, ..., 0] > 127
        assert (red == clip.masks[place, 0]).mean() > 0.9


def test_sequences_that_cannot_be_scored():
    with pytest.raises(InputError, match="flat cannot be used for validation: it needs two ann"):
        whole_clip(FlatSequence(frame_count=1), SIZE)
    with pytest.raises(InputError, match="flat cannot be used for validation"):
        whole_clip(FlatSequence(object_ids=(4,)), SIZE)
