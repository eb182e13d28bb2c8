"""Everything in the first frame becomes an object, on a backend that only pretends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError, PromptError
from qsam2_deploy.media.writing.mask_writer import label_image
from qsam2_deploy.predictors.everything import Everything, EverythingSegmenter
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.spec import IMAGE_ENCODER
from qsam2_deploy.tracking.results import FrameResult, Prompt
from tests.predictors.fake_backend import FakeBackend

OPTIONS = {"points_per_side": 3, "pred_iou_thresh": 0.55, "stability_score_thresh": 0.0,
           "box_nms_thresh": 0.4, "mask_threshold": 9.0}  # fmt: skip
FRAMES = [np.random.default_rng(i).integers(0, 256, (40, 60, 3), dtype=np.uint8) for i in range(4)]


def run(
    backend: FakeBackend, frames: list[np.ndarray], most: int | None = None, **options: Any
) -> tuple[list[FrameResult], str]:
    everything = Everything(most, {**OPTIONS, **options})
    with EverythingSegmenter(
        backend, backend="auto", threads=None, memory_frames=None, cache=None, precision="exact",
        everything=everything,
    ) as segmenter:  # fmt: skip
        assert backend.entered == 1
        results = list(segmenter.stream(frames, {}))
        note = segmenter.note
    assert backend.entered == 0
    return results, note


def test_a_picture_gives_what_was_found(backend: FakeBackend) -> None:
    (result,), note = run(backend, FRAMES[:1])
    areas = [item.mask.sum() for item in result.objects]
    assert len(areas) > 2
    assert areas == sorted(areas, reverse=True)
    assert [item.object_id for item in result.objects] == list(range(1, len(areas) + 1))
    assert all(np.array_equal(item.logits > 0, item.mask) for item in result.objects)
    assert note == f"masks found on the first frame: {len(areas)}; kept: all"
    assert backend.names().count(IMAGE_ENCODER) == 1


def test_small_masks_have_their_pixels(backend: FakeBackend) -> None:
    (result,), _ = run(backend, FRAMES[:1])
    labels = label_image(40, 60, result)
    smallest = result.objects[-1]
    assert (labels[smallest.mask] == smallest.object_id).all()


def test_a_video_tracks_the_best(backend: FakeBackend) -> None:
    (alone,), _ = run(backend, FRAMES[:1], 2)
    results, note = run(backend, FRAMES, 2)
    assert note.endswith("; tracked: the best 2")
    assert [result.frame_index for result in results] == [0, 1, 2, 3]
    assert all([item.object_id for item in r.objects] == [1, 2] for r in results)
    for first, picture in zip(results[0].objects, alone.objects, strict=True):
        np.testing.assert_array_equal(first.mask, picture.mask)
        assert first.score == 10  # of a mask that was given: the object is there
    assert results[3][1].mask.any()


def test_no_frame_gives_nothing(backend: FakeBackend) -> None:
    assert run(backend, []) == ([], "")


def test_nothing_found(backend: FakeBackend) -> None:
    with pytest.raises(PromptError, match=r"nothing was found .* IoU above 0\.95"):
        run(backend, FRAMES, pred_iou_thresh=0.95)
    assert backend.entered == 0


@pytest.mark.parametrize("most", [0, 256])
def test_numbers_of_objects(most: int) -> None:
    with pytest.raises(InputError, match="must be from 1 to 255"):
        Everything(most)


def test_from_files_to_files(tmp_path: Any, backend: FakeBackend, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "qsam2_deploy.predictors.everything.open_backend", lambda *args, **options: backend
    )
    photo = tmp_path / "photo.png"
    Image.fromarray(FRAMES[0]).save(photo)
    summary = segment_video(
        photo, "model.onnx", [], everything=Everything(options=OPTIONS),
        overlay=tmp_path / "out.png", masks_dir=tmp_path / "masks", json_path=tmp_path / "out.json",
    )  # fmt: skip
    assert summary.frames == 1
    assert summary.note.endswith("; kept: all")
    (frame,) = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert len(frame["objects"]) == len(summary.objects) > 2
    assert frame["objects"][0]["score"] is None
    assert np.asarray(Image.open(tmp_path / "masks" / "00000.png")).max() == len(summary.objects)
    with pytest.raises(PromptError, match="without prompts"):
        segment_video(
            photo, "m.onnx", [Prompt(points=[(1, 1)], labels=[1])], everything=Everything(),
            overlay=tmp_path / "out.png",
        )  # fmt: skip
