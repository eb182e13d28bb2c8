"""Many videos in several processes, some of which are killed."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy.batch.jobs import Job, jobs_from_manifest
from qsam2_deploy.batch.options import FINISHED
from qsam2_deploy.batch.prompts import GivenPrompts
from qsam2_deploy.batch.run import run_batch
from qsam2_deploy.errors import EngineError, InputError, MissingDependencyError, ModelFileError
from qsam2_deploy.evaluation import EvaluationConfig, run_evaluation
from qsam2_deploy.media.prompting.prompts import FramePrompt
from qsam2_deploy.tracking.results import Prompt
from tests.batch.conftest import write_manifest
from tests.data.datasets import moving, square, write_davis
from tests.support.media_samples import write_video

ROOT = Path(__file__).parents[2]
CLICK = FramePrompt(None, Prompt(points=((20.0, 20.0),), labels=(1,)))


@dataclass(frozen=True)
class KillsItsWorker:
    """Prompts whose reading ends the process, as a lack of memory does; only once if ``once``."""

    once: Path | None = None

    def read(self):
        if self.once is None or not self.once.exists():
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [CLICK]


def finished(folder):
    return sorted(path.parent.name for path in folder.glob(f"*/{FINISHED}"))


def test_two_processes_make_what_one_makes(options, videos, tmp_path):
    jobs = jobs_from_manifest(videos)
    bad = Job("bad", str(tmp_path / "none.mp4"), GivenPrompts((CLICK,)))
    both = run_batch([*jobs, bad], options, workers=2)
    assert [(o.name, o.state) for o in both.outcomes] == [
        ("a", "done"), ("b", "done"), ("c", "done"), ("bad", "failed"),
    ]  # fmt: skip
    assert (both.frames, both.workers, both.not_begun, both.stopped) == (9, 2, (), "")
    assert both.engine.startswith("ort")
    one = run_batch(jobs, replace(options, out=str(tmp_path / "one")), workers=1)
    assert one.frames == 9
    for path in (tmp_path / "one").glob("*/masks/*.png"):
        same = tmp_path / "out" / path.relative_to(tmp_path / "one")
        assert same.read_bytes() == path.read_bytes()
    rows = list(csv.DictReader((tmp_path / "out/summary.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["done", "done", "done", "failed"]
    again = run_batch([*jobs, bad], options, workers=2)
    assert [o.state for o in again.outcomes] == ["skipped"] * 3 + ["failed"]


class TestKilledWorkers:
    def test_the_video_is_tried_once_more(self, options, videos, tmp_path):
        first, *rest = jobs_from_manifest(videos)
        first = replace(first, prompts=KillsItsWorker(tmp_path / "killed"))
        summary = run_batch([first, *rest], options, workers=2)
        assert [outcome.state for outcome in summary.outcomes] == ["done"] * 3
        assert (tmp_path / "killed").exists()

    def test_a_video_that_kills_twice_is_listed(self, options, videos, tmp_path):
        first, *rest = jobs_from_manifest(videos)
        first = replace(first, prompts=KillsItsWorker())
        summary = run_batch([first, *rest], options, workers=1)
        assert [outcome.state for outcome in summary.outcomes] == ["failed", "done", "done"]
        assert "the worker was killed 2 times while it segmented" in summary.outcomes[0].reason
        assert finished(tmp_path / "out") == ["b", "c"]

    @pytest.mark.slow
    def test_killing_all_the_time_ends_the_run(self, options, videos):
        (first, *_) = jobs_from_manifest(videos)
        jobs = [replace(first, name=str(n), prompts=KillsItsWorker()) for n in range(12)]
        with pytest.raises(EngineError, match="workers were killed 9 times"):
            run_batch(jobs, options, workers=1)

    def test_what_they_left_is_removed(self, options, videos, tmp_path):
        left = tmp_path / "out/.a.x.unfinished"
        left.mkdir(parents=True)
        (left / "half").touch()
        run_batch(jobs_from_manifest(videos)[:1], options, workers=1)
        assert sorted(os.listdir(tmp_path / "out")) == [".qsam2-batch.lock", "a", "summary.csv"]


class TestRefusals:
    """Before any process is started."""

    def test_the_same_output_twice(self, options, videos, tmp_path):
        first, second, _ = jobs_from_manifest(videos)
        with pytest.raises(InputError, match=r"a\.mp4 and .*b\.mp4 have the same name 'a'"):
            run_batch([first, replace(second, name="a")], options)
        with pytest.raises(InputError, match=r"the name of the table, summary\.csv"):
            run_batch([replace(first, name="summary.csv")], options)
        with pytest.raises(InputError, match="there is no video to segment"):
            run_batch([], options)
        assert not (tmp_path / "out").exists()

    def test_a_model_that_is_none(self, options, videos):
        with pytest.raises(ModelFileError):
            run_batch(jobs_from_manifest(videos), replace(options, model=str(videos)))

    def test_places_that_cannot_be(self, options, videos, tmp_path):
        jobs = jobs_from_manifest(videos)
        with pytest.raises(InputError, match="it is a file, no folder"):
            run_batch(jobs, replace(options, out=str(videos)))
        with pytest.raises(InputError, match="the folder does not exist; create it first"):
            run_batch(jobs, replace(options, out=str(tmp_path / "no/out")))

    def test_another_batch_in_the_same_folder(self, options, videos, tmp_path):
        (tmp_path / "out").mkdir()
        with (tmp_path / "out/.qsam2-batch.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(InputError, match="another qsam2-batch writes to"):
                run_batch(jobs_from_manifest(videos), options)

    def test_without_ray(self, options, videos, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[ray\]'"):
            run_batch(jobs_from_manifest(videos), options, address="auto")


def _command(manifest, options, *more):
    line = [sys.executable, "-m", "qsam2_deploy.cli.batch", str(manifest), "--model"]
    line += [options.model, "--out", options.out, "--json", "r.json", "--backend", "ort"]
    return [*line, *more]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_running_videos_and_the_next_run_goes_on(options, tmp_path, number):
    """The signal goes to all processes, as from a terminal."""
    write_video(tmp_path / "a.mp4", 60)
    names = [f"v{number:02d}" for number in range(40)]
    manifest = write_manifest(tmp_path, *({"video": "a.mp4", "name": name} for name in names))
    line = _command(manifest, options, "--workers", "2")
    process = subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    out = tmp_path / "out"
    while len(finished(out)) < 3 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    told, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    done = finished(out)
    assert told.startswith(f"interrupted: {len(done)} done, 0 finished before, 0 failed, ")
    assert 3 <= len(done) < 40
    assert sorted(p.name for p in out.iterdir()) == [".qsam2-batch.lock", "summary.csv", *done]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{40 - len(done)} done, {len(done)} finished before, 0 failed")
    assert finished(out) == names
    records = [json.loads((out / name / FINISHED).read_text()) for name in names]
    assert {record["frames"] for record in records} == {60}


def test_scores_are_those_of_one_process(options, model_path, tmp_path):
    """Of a manifest and of DAVIS, with two objects whose masks overlap."""
    options = replace(options, model=str(model_path))
    labels = [np.maximum(item, square(40, 5, value=2)) for item in moving(5)]
    root = write_davis(tmp_path / "davis", {"a": labels, "b": moving(4)})
    entries = [
        {
            "video": f"davis/JPEGImages/480p/{name}",
            "annotations": f"davis/Annotations/480p/{name}",
            "prompts": None,
        }
        for name in "ab"
    ]
    manifest = write_manifest(tmp_path, *entries)
    assert run_batch(jobs_from_manifest(manifest), options, workers=2).of("failed") == []
    kinds = {"manifest": manifest, "davis": root}
    scores = [
        run_evaluation(EvaluationConfig(model, kind, place, backend="ort", threads=1))
        for kind, place in kinds.items()
        for model in (Path(options.out), Path(options.model))
    ]
    assert len(scores[0].objects) == 3
    assert all(score.objects == scores[0].objects for score in scores)
    assert 0 < scores[0].j < 100
