"""Which worker gets which video, with workers that are killed at chosen moments."""

from concurrent.futures import Future

import pytest

from qsam2_deploy.batch.jobs import Job
from qsam2_deploy.batch.outcome import Outcome, failed
from qsam2_deploy.batch.prompts import NoPrompts
from qsam2_deploy.batch.schedule import Schedule
from qsam2_deploy.errors import EngineError
from qsam2_deploy.media.reading.interrupt import StopFlag


class KilledError(Exception):
    """What a killed worker's futures raise."""


class FakeSlot:
    """Answers at once with what is scripted: an outcome for a job, or an error."""

    lost = (KilledError,)

    def __init__(self, script, opened):
        self.script, self.ended = script, None
        self.given = []
        self.ready = Future()
        self._answer(self.ready, "ready", None)
        opened.append(self)

    def submit(self, job):
        if self._next("submit " + job.name):
            raise KilledError
        self.given.append(job.name)
        future = Future()
        self._answer(future, job.name, Outcome(job.name, job.video, "done"))
        return future

    def close(self):
        self.ended = "closed"

    def kill(self):
        self.ended = "killed"

    def _next(self, what):
        found = self.script.get(what)
        return found.pop(0) if found else None

    def _answer(self, future, what, otherwise):
        answer = self._next(what) or otherwise
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


@pytest.fixture
def run():
    """Run jobs by the script; return states, all slots and what was left."""

    def run(names, script=None, workers=1, stop=None):
        jobs = [Job(name, f"{name}.mp4", NoPrompts("")) for name in names]
        opened = []
        stop = stop or StopFlag()
        schedule = Schedule(jobs, lambda: FakeSlot(script or {}, opened), workers, stop)
        states = {outcome.name: outcome.state for outcome in schedule.run()}
        return states, opened, [job.name for job in schedule.left]

    return run


def test_every_video_once_and_every_worker_ended(run):
    states, slots, left = run("abcde", workers=2)
    assert states == dict.fromkeys("abcde", "done")
    assert sorted(name for slot in slots for name in slot.given) == list("abcde")
    assert ([slot.ended for slot in slots], left) == (["closed"] * 2, [])


def test_no_more_workers_than_videos(run):
    assert len(run("a", workers=4)[1]) == 1


def test_a_worker_killed_between_two_videos_is_no_video_s_fault(run):
    script = {"submit b": [True, True, True]}
    states, slots, _ = run("ab", script)
    assert states == {"a": "done", "b": "done"}
    assert [slot.ended for slot in slots] == ["killed"] * 3 + ["closed"]


def test_a_worker_killed_while_it_starts_is_replaced(run):
    states, slots, _ = run("a", {"ready": [KilledError()]})
    assert states == {"a": "done"}
    assert [slot.ended for slot in slots] == ["killed", "closed"]


def test_a_video_is_tried_twice(run):
    states, _, _ = run("abc", {"a": [KilledError(), KilledError()], "b": [KilledError()]})
    assert states == {"a": "failed", "b": "done", "c": "done"}


def test_workers_that_never_start_end_the_run(run):
    with pytest.raises(EngineError, match="workers were killed 9 times"):
        run("a", {"ready": [KilledError()] * 20})


def test_other_errors_are_passed_on_and_no_worker_is_left(run):
    opened = []
    jobs = [Job(name, "", NoPrompts("")) for name in "abc"]
    script = {"a": [ZeroDivisionError()]}
    schedule = Schedule(jobs, lambda: FakeSlot(script, opened), 2, StopFlag())
    with pytest.raises(ZeroDivisionError):
        list(schedule.run())
    assert all(slot.ended for slot in opened)


def test_nothing_begins_after_what_concerns_all_videos(run):
    job = Job("b", "b.mp4", NoPrompts(""))
    states, slots, left = run("abcd", {"b": [failed(job, "disk full", hopeless=True)]})
    assert (states, left) == ({"a": "done", "b": "failed"}, ["c", "d"])
    assert slots[0].ended == "closed"


def test_nothing_begins_after_ctrl_c(run):
    states, slots, left = run("ab", stop=StopFlag(stopped=True))
    assert (states, left) == ({}, ["a", "b"])
    assert slots[0].ended == "closed"
