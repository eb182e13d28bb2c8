"""Videos of manifests, folders and datasets."""

import json

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.batch.jobs import (
    jobs_from_davis,
    jobs_from_folder,
    jobs_from_manifest,
    jobs_from_sav,
)
from qsam2_deploy.errors import InputError, PromptError, VideoError
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags
from tests.data.datasets import moving, write_davis, write_image, write_sav
from tests.support.media_samples import frame_image


def test_prompts_of_a_manifest(tmp_path):
    write_image(tmp_path / "m.png", moving(1)[0] * 255)
    for index, labels in enumerate(moving(2, value=7)):
        write_image(tmp_path / f"masks/{index:05d}.png", labels, palette=True)
    (tmp_path / "p.json").write_text(json.dumps([{"frame": 4, "box": [1, 2, 3, 4]}]))
    entries = [
        {"video": "a.mp4", "prompts": [{"mask": "m.png", "object": 2}]},
        {"video": "b.mp4", "prompts": "p.json"},
        {"video": "c.mp4", "annotations": "masks"},
        {"video": "d.mp4"},
        {"video": "e.mp4", "prompts": [{"points": 3}]},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    a, b, c, d, e = jobs_from_manifest(path)
    assert (a.name, a.video) == ("a", str(tmp_path / "a.mp4"))
    (mask,) = a.prompts.read()
    assert mask.prompt.object_id == 2
    assert np.array_equal(mask.prompt.mask, moving(1)[0] > 0)
    assert b.prompts.read()[0].frame == 4
    (first,) = c.prompts.read()
    assert (first.frame, first.prompt.object_id) == (0, 7)
    assert np.array_equal(first.prompt.mask, moving(1)[0] > 0)
    with pytest.raises(PromptError, match=r'line 4 of .* has neither "prompts" nor "annotations"'):
        d.prompts.read()
    with pytest.raises(PromptError, match="prompt 1 of line 5 of"):
        e.prompts.read()


def test_a_folder(tmp_path):
    for name in ("b.mp4", "a.MOV", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "frames.1").mkdir()
    Image.fromarray(frame_image(0)).save(tmp_path / "frames.1/0.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b").mkdir()  # results of b.mp4
    for name in ("finished.json", "sheet.png"):
        (tmp_path / "b" / name).touch()
    (tmp_path / "b.json").write_text(json.dumps([{"frame": 2, "points": [[1, 1]]}]))
    common = prompts_from_flags(["5,6"])
    jobs = jobs_from_folder(tmp_path, common)
    assert [job.name for job in jobs] == ["a", "b", "frames.1"]
    assert [job.prompts.read()[0].frame for job in jobs] == [None, 2, None]
    with pytest.raises(InputError, match=r"no prompts for .*a\.MOV; write a\.json beside it"):
        jobs_from_folder(tmp_path)
    (tmp_path / "a.avi").touch()
    with pytest.raises(InputError, match=r"a\.MOV and a\.avi would have the same results"):
        jobs_from_folder(tmp_path, common)


def test_a_folder_without_videos(tmp_path):
    with pytest.raises(InputError, match="holds no video; expected files such as"):
        jobs_from_folder(tmp_path)


def test_davis(tmp_path):
    root = write_davis(tmp_path, {"a": moving(3), "b": moving(3, value=2)})
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("b\n")
    (job,) = jobs_from_davis(root, "val")
    assert (job.name, job.video) == ("b", str(root / "JPEGImages/480p/b"))
    assert job.prompts.read()[0].prompt.object_id == 2
    # What is wrong with one sequence is said when it comes, so that the others are done.
    (root / "Annotations/480p/a/00000.png").write_bytes(b"")
    first, _ = jobs_from_davis(root)
    with pytest.raises(VideoError, match=r"cannot read .*a/00000\.png"):
        first.prompts.read()
    with pytest.raises(VideoError, match="there is no sequence 'c'"):
        jobs_from_davis(root, ["c"])


def test_sa_v(tmp_path):
    objects = {0: {4: moving(5)[4]}, 3: {0: moving(1)[0]}}
    root = write_sav(tmp_path, {"v": objects}, 9)
    (job,) = jobs_from_sav(root)
    assert job.video == str(root / "JPEGImages_24fps/v")
    read = job.prompts.read()
    assert [(item.frame, item.prompt.object_id) for item in read] == [(0, 3), (4, 0)]


def test_sa_v_training(tmp_path):
    (tmp_path / "sav_1_manual.json").write_text("damaged")
    (job,) = jobs_from_sav(tmp_path)
    assert (job.name, job.video) == ("sav_1", str(tmp_path / "sav_1.mp4"))
