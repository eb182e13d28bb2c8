"""The drop-in for the predictor of the real-time fork."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import PromptError, VideoError
from qsam2_deploy.predictors.camera_predictor import SAM2CameraPredictor
from tests.support.drawn_clip import drawn_clip

FRAMES = list(drawn_clip(12, 48, 64))


@pytest.fixture(scope="module")
def opened(model_path: Path) -> Iterator[SAM2CameraPredictor]:
    with SAM2CameraPredictor(model_path, "ort", threads=1) as predictor:
        yield predictor


@pytest.fixture
def predictor(opened: SAM2CameraPredictor) -> SAM2CameraPredictor:
    opened.frame_idx = 0
    opened.load_first_frame(FRAMES[0])
    return opened


def click(predictor: SAM2CameraPredictor, obj_id: object = 1, **more: object):
    return predictor.add_new_prompt(0, obj_id, points=[[20, 20]], labels=[1], **more)


def test_it_tracks_and_memory_does_not_grow(predictor: SAM2CameraPredictor) -> None:
    frame, ids, shown = click(predictor)
    assert (frame, ids, shown.shape) == (0, [1], (1, 1, 48, 64))
    for number, image in enumerate(FRAMES[1:], 1):
        ids, logits = predictor.track(image)
        assert ids == [1]
        assert np.isfinite(logits).all()
        assert predictor.frame_idx == number
        assert predictor.condition_state["num_frames"] == number + 1
    (track,) = predictor._objects.values()
    assert sorted(track.bank.tracked) == list(range(5, 12)), "the fork keeps the newest seven"
    assert len(predictor._features) <= 4


def test_any_form_of_box_and_name(predictor: SAM2CameraPredictor) -> None:
    forms = [[5, 5, 30, 30]], [[5, 5], [30, 30]], [5, 5, 30, 30], np.array([5, 5, 30, 30])
    shown = [
        predictor.add_new_prompt(0, name, bbox=box) for name, box in zip("abcd", forms, strict=True)
    ]
    assert shown[-1][1] == ["a", "b", "c", "d"]
    final = shown[-1][2]
    assert all((mask == final[0]).all() for mask in final)
    assert predictor.condition_state["obj_id_to_idx"] == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_an_object_may_come_later(predictor: SAM2CameraPredictor) -> None:
    click(predictor)
    predictor.track(FRAMES[1])
    frame, ids, _ = predictor.add_new_prompt_during_track(point=[40, 30])
    assert (frame, ids) == (1, [1, 2])
    assert predictor.add_new_promot_during_track(bbox=[5, 5, 30, 30]) is None
    ids, logits = predictor.track(FRAMES[2])
    assert ids == [1, 2, 3]
    assert logits.shape == (3, 1, 48, 64)
    _, ids, _ = predictor.add_new_prompt_during_track(
        mask=np.ones((48, 64)), if_new_target=False, obj_id=2
    )
    assert ids == [1, 2, 3]


def test_further_frames_for_prompts(predictor: SAM2CameraPredictor) -> None:
    click(predictor)
    predictor.add_conditioning_frame(FRAMES[3])
    newest = predictor.condition_state["num_frames"] - 1
    frame, _, _ = predictor.add_new_mask(newest, 1, FRAMES[3][..., 0] > 100)
    assert frame == 1
    predictor.track(FRAMES[4])
    (track,) = predictor._objects.values()
    assert sorted(track.bank.conditioning) == [0, 1]


def test_earlier_points_count_unless_cleared(predictor: SAM2CameraPredictor) -> None:
    def second(clear: bool) -> np.ndarray:
        predictor.reset_state()
        click(predictor)
        return predictor.add_new_points(0, 1, [[40, 30]], [0], clear_old_points=clear)[2]

    assert (second(True) != second(False)).any()


def test_frames_of_pillow(predictor: SAM2CameraPredictor) -> None:
    predictor.load_first_frame(Image.fromarray(FRAMES[0]))
    click(predictor)
    assert predictor.track(Image.fromarray(FRAMES[1]))[0] == [1]


def test_reset_keeps_the_frame(predictor: SAM2CameraPredictor) -> None:
    click(predictor)
    predictor.track(FRAMES[1])
    predictor.reset_state()
    assert predictor.condition_state["obj_ids"] == []
    assert click(predictor, obj_id="again")[1] == ["again"]


def test_what_goes_wrong_is_said(predictor: SAM2CameraPredictor) -> None:
    with pytest.raises(PromptError, match="add a prompt before tracking"):
        predictor.track(FRAMES[1])
    with pytest.raises(PromptError, match=r"the frame 7 is not at hand: prompts go to .* \[0\]"):
        predictor.add_new_prompt(7, 1, points=[[1, 1]], labels=[1])
    with pytest.raises(PromptError, match="points or box"):
        predictor.add_new_prompt(0, 1)
    assert predictor.condition_state["obj_ids"] == []
    with pytest.raises(VideoError, match=r"uint8 RGB array .* got float32 \[48, 64, 3\]"):
        predictor.track(FRAMES[1].astype(np.float32))
    predictor.condition_state = {}
    with pytest.raises(VideoError, match="call load_first_frame"):
        predictor.add_conditioning_frame(FRAMES[1])
