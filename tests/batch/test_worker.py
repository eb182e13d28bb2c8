"""What one worker makes of videos, when it makes them again, and where it puts them."""

import csv
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.batch.jobs import jobs_from_davis, jobs_from_manifest, jobs_from_sav
from qsam2_deploy.batch.options import BatchOptions
from qsam2_deploy.batch.places import store_at
from qsam2_deploy.batch.summary import table
from qsam2_deploy.batch.worker import Worker
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import InputError, MissingDependencyError
from qsam2_deploy.evaluation.png_results import PngResults
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.spec import SPEC_KEY
from tests.batch.conftest import CLICK, write_manifest
from tests.data.datasets import moving, write_davis, write_sav
from tests.predictors.fake_backend import fake_spec
from tests.support.media_samples import write_video
from tests.support.stream_servers import serve_web
from tests.support.tiny_model import tiny_bytes


@pytest.fixture
def run(options, tmp_path):
    """Run the videos of a manifest in one worker; return the outcomes."""
    (tmp_path / "out").mkdir()

    def run(manifest, **changed):
        worker = Worker(replace(options, **changed))
        outcomes = [worker.run(job) for job in jobs_from_manifest(manifest)]
        worker.close()
        return outcomes

    return run


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def listed(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class TestResults:
    def test_are_those_of_a_single_run(self, run, videos, options, tmp_path):
        """Also of the second and third video, before which the model was not opened anew."""
        outcomes = run(videos)
        assert states(outcomes) == ["done"] * 3
        assert [(o.frames, o.width, o.height, o.objects) for o in outcomes] == [(3, 64, 48, 1)] * 3
        single = tmp_path / "single"
        single.mkdir()
        prompts = jobs_from_manifest(videos)[2].prompts.read()
        segment_video(
            tmp_path / "c.mp4", options.model, prompts, masks_dir=single / "masks",
            json_path=single / "results.json", backend="ort", threads=1,
        )  # fmt: skip
        batch = tmp_path / "out/c"
        assert listed(batch) == ["finished.json", *listed(single)]
        for name in listed(single / "masks"):
            assert (batch / "masks" / name).read_bytes() == (single / "masks" / name).read_bytes()
        read = [json.loads((f / "results.json").read_text())["frames"] for f in (batch, single)]
        for frame in (*read[0], *read[1]):
            del frame["seconds"]
        assert read[0] == read[1]

    def test_every_output(self, run, videos, tmp_path):
        outputs = {
            "overlay": "o.mp4",
            "contact_sheet": "s.png",
            "coco": "c.json",
            "object_masks": "m",
        }
        assert states(run(videos, outputs=outputs)) == ["done"] * 3
        assert listed(tmp_path / "out/a") == [
            "c.json", "finished.json", "m/001/00000.png", "m/001/00001.png", "m/001/00002.png",
            "o.mp4", "s.png",
        ]  # fmt: skip

    def test_a_url(self, run, tmp_path):
        write_video(tmp_path / "a.mp4", 3)
        with serve_web(tmp_path) as server:
            manifest = write_manifest(
                tmp_path,
                {"video": f"{server.url}/a.mp4?token=secret"},
                {"video": f"{server.url}/none.mp4?token=secret"},
            )
            good, bad = run(manifest)
            assert states(run(manifest)) == ["skipped", "failed"]
        assert (good.state, good.frames) == ("done", 3)
        assert good.video == f"{server.url}/a.mp4?token=***"
        assert "none.mp4?token=***" in bad.reason
        record = (tmp_path / "out/a/finished.json").read_text()
        assert "a.mp4?token=***" in record
        assert "secret" not in record

    def test_the_record(self, run, videos, tmp_path):
        run(videos)
        record = json.loads((tmp_path / "out/b/finished.json").read_text())
        assert (record["schema_version"], record["frames"], record["objects"]) == (1, 3, 1)
        assert record["video"] == str(tmp_path / "b.mp4")
        assert record["engine"].startswith("ort")
        assert len(record["digest"]) == len(record["model_sha256"]) == 64

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ({}, "nothing would be written"),
            ({"mask": "m"}, "there is no output 'mask'"),
            ({"masks": "../m"}, "must be the name of a file or folder"),
            ({"masks": ""}, "must be the name of a file or folder"),
            ({"json": "finished.json"}, "must be the name of a file or folder"),
            ({"masks": "m", "json": "m"}, "two outputs have the same name"),
        ],
    )
    def test_names_that_cannot_be(self, outputs, message):
        with pytest.raises(InputError, match=message):
            BatchOptions("m.onnx", "out", outputs)


class TestInputsInResults:
    """A second step on what a first one wrote."""

    @pytest.mark.parametrize("video", ["out/a/masks", "out/a/masks/*.png", "link/masks"])
    def test_videos_are_never_replaced(self, run, videos, tmp_path, video):
        run(videos)
        (tmp_path / "link").symlink_to(tmp_path / "out/a")
        before = listed(tmp_path / "out/a")
        (outcome,) = run(write_manifest(tmp_path, {"video": video, "name": "a"}))
        assert f"{tmp_path / 'out/a'}, which would be replaced" in outcome.reason
        assert listed(tmp_path / "out/a") == before
        assert states(run(write_manifest(tmp_path, {"video": video, "name": "b"}))) == ["done"]

    @pytest.mark.parametrize("prompts", ["masks", "mask in list", "list"])
    def test_prompts_are_never_replaced(self, run, tmp_path, prompts):
        write_video(tmp_path / "a.mp4", 3)
        folder = tmp_path / "out/a"
        mask = np.full((48, 64), 255, np.uint8)
        (folder / "masks").mkdir(parents=True)
        Image.fromarray(mask).save(folder / "masks/00000.png")
        (folder / "p.json").write_text(json.dumps(CLICK))
        (folder / "finished.json").write_text("{}")
        before = listed(folder)
        given = {
            "masks": {"prompts": None, "annotations": "out/a/masks"},
            "mask in list": {"prompts": [{"mask": "out/a/masks/00000.png"}]},
            "list": {"prompts": "out/a/p.json"},
        }[prompts]
        (outcome,) = run(write_manifest(tmp_path, {"video": "a.mp4", **given}))
        assert "is an input, and lies in" in outcome.reason
        assert listed(folder) == before


class TestFailures:
    def test_of_one_video_end_nothing(self, run, tmp_path):
        write_video(tmp_path / "a.mp4", 3)
        (tmp_path / "b.mp4").write_bytes(b"no video" * 50)
        entries = [
            {"video": "none.mp4"},
            {"video": "b.mp4"},
            {"video": "a.mp4", "name": "past", "prompts": [{"frame": 3, **CLICK[0]}]},
            {"video": "a.mp4", "name": "outside", "prompts": [{"points": [[64, 1]]}]},
            {"video": "a.mp4", "name": "mask", "prompts": [{"mask": "none.png"}]},
            {"video": "a.mp4", "name": "file", "prompts": "none.json"},
            {"video": "a.mp4"},
        ]
        *bad, good = run(write_manifest(tmp_path, *entries))
        assert states(bad) == ["failed"] * 6
        assert good.state == "done"
        for outcome, message in zip(
            bad,
            (
                "there is no file",
                "b.mp4",
                "is for frame 3, but the source has 3 frames",
                "which is 64 pixels wide",
                "there is no mask",
                "there is no prompts file",
            ),
            strict=True,
        ):
            assert message in outcome.reason
            assert "\n" not in outcome.reason
            assert not outcome.hopeless
        assert os.listdir(tmp_path / "out") == ["a"]

    def test_of_the_model_concern_all(self, run, videos, tmp_path):
        first, *_ = run(videos, model=str(videos))
        assert first.hopeless
        assert first.state == "failed"
        assert os.listdir(tmp_path / "out") == []

    def test_what_is_none_of_ours_is_not_replaced(self, run, tmp_path):
        write_video(tmp_path / "a.mp4", 3)
        mine = tmp_path / "out/a/notes.txt"
        mine.parent.mkdir()
        mine.write_text("mine")
        (outcome,) = run(write_manifest(tmp_path, {"video": "a.mp4"}))
        assert "out/a is there already and holds no results of qsam2-batch" in outcome.reason
        assert listed(tmp_path / "out") == ["a/notes.txt"]

    def test_older_results_stay(self, run, videos, tmp_path):
        run(videos)
        before = (tmp_path / "out/a/finished.json").read_bytes()
        (tmp_path / "a.mp4").write_bytes(b"damaged")
        assert states(run(videos)) == ["failed", "skipped", "skipped"]
        assert (tmp_path / "out/a/finished.json").read_bytes() == before


class TestAgain:
    def test_finished_videos_are_skipped_without_opening_the_model(self, run, videos, options):
        done = run(videos)
        worker = Worker(replace(options, threads=2))
        skipped = [worker.run(job) for job in jobs_from_manifest(videos)]
        assert states(skipped) == ["skipped"] * 3
        assert worker._segmenter is None
        assert [o.frames for o in skipped] == [o.frames for o in done]

    def test_a_record_that_was_edited(self, run, videos, tmp_path):
        run(videos)
        path = tmp_path / "out/a/finished.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps({"digest": record["digest"], "frames": "many"}))
        (tmp_path / "out/b/finished.json").write_text("[")
        assert states(run(videos)) == ["skipped", "done", "skipped"]

    @pytest.mark.parametrize(
        "change",
        [
            {"outputs": {"json": "results.json"}},
            {"memory_frames": 2},
            {"ignore_orientation": True},
            {"audio": False},
        ],
    )
    def test_options_of_the_results_count(self, run, videos, change, tmp_path):
        run(videos)
        assert states(run(videos, **change)) == ["done"] * 3
        assert (tmp_path / "out/a/masks").exists() == ("outputs" not in change)
        assert states(run(videos, **change)) == ["skipped"] * 3

    def test_video_prompts_model_and_part_count(self, run, videos, model, tmp_path):
        run(videos)
        write_video(tmp_path / "a.mp4", 4)
        entries = [{"video": "a.mp4"}, {"video": "b.mp4", "start": 1}, {"video": "c.mp4"}]
        assert states(run(write_manifest(tmp_path, *entries))) == ["done", "done", "skipped"]
        entries[2]["prompts"] = [{"points": [[21, 20]]}]
        assert states(run(write_manifest(tmp_path, *entries))) == ["skipped", "skipped", "done"]
        model.write_bytes(tiny_bytes({SPEC_KEY: replace(fake_spec(), name="other").to_json()}))
        assert states(run(videos)) == ["done"] * 3

    def test_frames_of_a_folder_count(self, run, tmp_path):
        folder = tmp_path / "frames"
        folder.mkdir()
        for index in range(2):
            Image.new("RGB", (64, 48)).save(folder / f"{index}.jpg")
        manifest = write_manifest(
            tmp_path, {"video": "frames"}, {"video": "frames/*.jpg", "name": "pattern"}
        )
        assert states(run(manifest)) == ["done"] * 2
        assert states(run(manifest)) == ["skipped"] * 2
        Image.new("RGB", (64, 48), "red").save(folder / "1.jpg")
        assert states(run(manifest)) == ["done"] * 2


class TestDatasets:
    def test_davis(self, options, tmp_path):
        root = write_davis(tmp_path / "davis", {"a": moving(3), "b": moving(4)})
        (tmp_path / "out").mkdir()
        worker = Worker(options)
        assert states(map(worker.run, jobs_from_davis(root))) == ["done"] * 2
        worker.close()
        assert len(os.listdir(tmp_path / "out/b/masks")) == 4

    def test_objects_of_sa_v_begin_at_0_and_overlap(self, options, tmp_path):
        objects = {0: {0: moving(1)[0], 4: moving(5)[4]}, 1: {4: moving(5)[4]}}
        root = write_sav(tmp_path / "sav", {"v": objects}, 5)
        (tmp_path / "out").mkdir()
        worker = Worker(replace(options, outputs={"object_masks": "masks"}))
        (outcome,) = map(worker.run, jobs_from_sav(root))
        worker.close()
        assert (outcome.state, outcome.objects) == ("done", 2)
        (sequence,) = sav_sequences(root)
        frames = list(PngResults(tmp_path / "out").track(sequence, ()))
        assert [sorted(masks) for masks in frames] == [[0], [], [], [], [0, 1]]


class TestUrls:
    @pytest.fixture
    def url(self, tmp_path):
        pytest.importorskip("fsspec")
        return f"memory://{tmp_path.name}/results/"

    def test_results_are_written_and_found_again(self, run, videos, url, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        with store_at(url).open():
            assert states(run(videos, out=url)) == ["done"] * 3
        files = fsspec.filesystem("memory")
        root = f"/{tmp_path.name}/results"
        found = sorted(path.removeprefix(root) for path in files.find(f"{root}/a"))
        assert found == [
            "/a/finished.json", "/a/masks/00000.png", "/a/masks/00001.png", "/a/masks/00002.png",
            "/a/results.json",
        ]  # fmt: skip
        assert states(run(videos, out=url)) == ["skipped"] * 3
        # Without the file that is written last, it is not finished.
        files.rm_file(f"{root}/b/finished.json")
        files.pipe_file(f"{root}/b/.begun", b"")
        assert states(run(videos, out=url)) == ["skipped", "done", "skipped"]
        assert not files.exists(f"{root}/b/.begun")
        outputs = {"json": "r.json"}
        assert states(run(videos, out=url, outputs=outputs)) == ["done"] * 3
        assert len(files.find(f"{root}/a")) == 2

    def test_what_is_none_of_ours_is_not_replaced(self, run, videos, url, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        files = fsspec.filesystem("memory")
        files.pipe_file(f"/{tmp_path.name}/results/b/mine", b"mine")
        assert states(run(videos, out=url)) == ["done", "failed", "done"]
        assert files.cat_file(f"/{tmp_path.name}/results/b/mine") == b"mine"

    def test_the_table(self, url):
        place = store_at(url).write_summary(b"name\n")
        assert place == f"{url}summary.csv"

    @pytest.mark.parametrize(
        ("out", "message"), [("nothing://x", "cannot use nothing://x for results")]
    )
    def test_unknown(self, out, message):
        pytest.importorskip("fsspec")
        with pytest.raises(InputError, match=message):
            store_at(out)

    def test_without_fsspec(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[batch\]'"):
            store_at("s3://bucket/out")

    def test_without_the_package_of_a_kind_of_url(self, monkeypatch):
        pytest.importorskip("fsspec")
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(MissingDependencyError, match="run: pip install s3fs"):
            store_at("s3://bucket/out")

    def test_a_place_that_cannot_be_written(self, run, videos, tmp_path):
        pytest.importorskip("fsspec")
        (tmp_path / "file").write_text("")
        url = f"file://{tmp_path}/file"
        with pytest.raises(InputError, match=f"cannot write .* to {url}"), store_at(url).open():
            pass
        first, *_ = run(videos, out=url)
        assert first.state == "failed"
        assert "file" in first.reason


def test_the_table_is_csv(run, tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    entries = [{"video": "a.mp4", "name": 'a, "b"'}, {"video": "none.mp4"}]
    text = table(run(write_manifest(tmp_path, *entries))).decode()
    first, second = csv.DictReader(text.splitlines())
    assert (first["name"], first["state"], first["frames"]) == ('a, "b"', "done", "3")
    assert (second["state"], second["frames"]) == ("failed", "")
    assert "there is no file" in second["reason"]
