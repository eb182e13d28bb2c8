"""Any video with masks beside it, and the manifest that lists them."""

import json

import numpy as np
import pytest

from qsam2_deploy.errors import InputError, VideoError
from qsam2_deploy.evaluation import EvaluationConfig, run_evaluation
from qsam2_deploy.evaluation.annotated_video import AnnotatedVideo, manifest_sequences
from tests.data.datasets import moving, write_frames, write_image
from tests.support.media_samples import frame_number, write_video


def write_masks(folder, labels):
    for index, item in labels.items():
        write_image(folder / f"{index:05d}.png", item, palette=True)
    return folder


def test_a_video(tmp_path):
    video = write_video(tmp_path / "a.mp4", 9)
    labels = moving(9, value=3)
    masks = write_masks(tmp_path / "masks", {i: labels[i] for i in (0, 4, 8)})
    sequence = AnnotatedVideo("a", video, masks)
    assert (sequence.name, sequence.object_ids, sequence.annotated) == ("a", (3,), (0, 4, 8))
    assert (sequence.frame_count, sequence.size) == (9, (48, 64))
    assert [frame_number(sequence.frame(i)) for i in (0, 7, 2)] == [0, 7, 2]
    assert np.array_equal(sequence.masks(4)[3], labels[4] > 0)
    assert sequence.masks(5) == {}
    sequence.release()
    assert frame_number(sequence.frame(8)) == 8
    sequence.release()


def test_masks_that_cannot_be(tmp_path):
    video = write_video(tmp_path / "a.mp4", 3)
    masks = write_masks(tmp_path / "masks", {0: moving(1)[0], 3: moving(1)[0]})
    with pytest.raises(VideoError, match=r"00003\.png has no frame: .*a\.mp4 has 3 frames"):
        _ = AnnotatedVideo("a", video, masks).frame_count
    with pytest.raises(VideoError, match="there is no folder"):
        AnnotatedVideo("a", video, tmp_path / "none")
    empty = write_masks(tmp_path / "empty", {0: 0 * moving(1)[0]})
    with pytest.raises(VideoError, match="shows no object, so there is nothing to track"):
        AnnotatedVideo("a", video, empty)
    (empty / "00000.png").unlink()
    with pytest.raises(VideoError, match="there is no mask in"):
        AnnotatedVideo("a", video, empty)


@pytest.fixture
def manifest(tmp_path):
    """List a folder of frames and a video, with masks."""
    write_frames(tmp_path / "frames", moving(5))
    write_video(tmp_path / "b.mp4", 4)
    for name, count in (("a", 5), ("b", 4)):
        write_masks(tmp_path / f"masks/{name}", dict(enumerate(moving(count))))
    return write_manifest(
        tmp_path / "m.jsonl",
        {"video": "frames", "name": "a", "annotations": "masks/a"},
        {"video": "b.mp4", "annotations": "masks/b"},
    )


def write_manifest(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_results_of_a_manifest(manifest, tmp_path):
    results = tmp_path / "out"
    for name, count in (("a", 5), ("b", 4)):
        write_masks(results / name / "masks", dict(enumerate(moving(count))))
    config = EvaluationConfig(results, "manifest", manifest)
    assert run_evaluation(config).j_and_f == 100
    write_masks(results / "a/masks", {2: moving(20)[19]})
    config = EvaluationConfig(results, "manifest", manifest, sequences="a")
    assert run_evaluation(config).j == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("entry", "names", "message"),
    [
        ({}, "c", "there is no video 'c' in"),
        ({"annotations": None}, None, 'line 1 of .* has no "annotations" to score against'),
        ({"start": 1}, None, 'is of a part of its video; leave "start" and "max_frames" out'),
        ({"max_frames": 2}, ("a",), "is of a part of its video"),
    ],
)
def test_entries_that_cannot_be_scored(tmp_path, entry, names, message):
    write_masks(tmp_path / "masks", {0: moving(1)[0]})
    path = write_manifest(tmp_path / "m.jsonl", {"video": "a.mp4", "annotations": "masks", **entry})
    with pytest.raises(InputError, match=message):
        manifest_sequences(path, names)
