"""Timing of tracked frames: full memories, processes that take turns, and those that fail."""

import os
from functools import partial
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import EngineError, InputError, ModelFileError
from qsam2_deploy.spec import COMPONENTS
from qsam2_deploy.timing.measure import Timing, measure_in_turns
from qsam2_deploy.timing.steady import FrameTime, SteadyTracker, synthetic_video
from qsam2_deploy.timing.table import format_timings, timings_to_json
from qsam2_deploy.timing.worker import TimedProcess, resident_memory
from tests.predictors.fake_backend import FakeBackend, fake_spec

SIZE = (48, 64)


class Dying(FakeBackend):
    """Ends its process when it is asked for a memory."""

    def run(self, component: str, inputs: Any) -> Any:
        if component == "memory_encoder":
            os._exit(7)
        return super().run(component, inputs)


def broken() -> FakeBackend:
    backend = FakeBackend()
    backend.break_down("memory_attention")
    return backend


def none() -> FakeBackend:
    raise ModelFileError("there is no model")


@pytest.mark.parametrize("rules", [{}, {"num_maskmem": 3, "max_obj_ptrs_in_encoder": 4}])
@pytest.mark.parametrize("objects", [1, 3])
def test_every_frame_has_full_memories(rules, objects):
    backend = FakeBackend(fake_spec(**rules)).__enter__()
    steady = SteadyTracker(backend, objects=objects, frame_size=SIZE)
    backend.calls.clear()
    for _ in range(20):
        time = steady.step()
        assert set(time.components) == set(COMPONENTS)
        assert time.total > sum(time.components.values()) > 0
        assert time.rest > 0
    attended = [inputs for name, inputs in backend.calls if name == "memory_attention"]
    spec = backend.spec.rules
    assert len(attended) == 20  # all objects in one batch
    for inputs in attended:
        assert inputs["memory"].shape[:2] == (objects, spec.num_maskmem)
        assert inputs["pointers"].shape[:2] == (objects, spec.max_obj_ptrs_in_encoder)
    images = [inputs["image"] for name, inputs in backend.calls if name == "image_encoder"]
    assert not np.array_equal(images[0], images[1])


def test_numbers_that_are_not_finite_do_not_end_it():
    backend = FakeBackend().__enter__()
    steady = SteadyTracker(backend, frame_size=SIZE)
    backend.poison("mask_decoder", "mask_logits")
    for _ in range(8):
        with pytest.warns(RuntimeWarning, match="not finite"):
            steady.step()
    attended = [inputs for name, inputs in backend.calls if name == "memory_attention"]
    assert attended[-1]["memory"].shape[1] == backend.spec.rules.num_maskmem


def test_there_must_be_an_object():
    with pytest.raises(InputError, match="at least 1, but is 0"):
        SteadyTracker(FakeBackend(), objects=0)


def test_the_video_moves():
    frames = synthetic_video(SIZE)
    assert {frame.shape for frame in frames} == {(*SIZE, 3)}
    assert np.array_equal(frames[0][:, 8:], frames[1][:, :-8])
    assert np.ptp(frames[0]) > 50


def test_contenders_take_turns_and_failures_are_told():
    contenders = {"good": FakeBackend, "none": none, "dying": Dying, "broken": broken}
    timings = measure_in_turns(contenders, rounds=3, frame_size=SIZE, show_progress=False)
    good = timings["good"]
    assert len(good.frames) == 3
    assert good.load_seconds > 0
    low, high = good.spread
    assert low <= good.milliseconds <= high
    assert good.peak_memory >= good.memory > 1e6
    assert timings["none"].error == "there is no model"
    assert "has ended by itself, with status 7" in timings["dying"].error
    assert timings["broken"].error
    table = format_timings(timings)
    assert table.splitlines()[1].startswith("good ")
    assert "none: there is no model" in table
    data = timings_to_json(timings, threads=1, objects=1)
    assert data["results"]["none"] == {"error": "there is no model"}
    assert len(data["results"]["good"]["frames_ms"]) == 3
    assert data["cores"] >= 1


def test_a_process_runs_a_real_engine_on_its_own_processors(model_path):
    opener = partial(open_backend, model_path, "ort", 1)
    environment = dict(os.environ)
    with TimedProcess(opener, threads=1, objects=2, frame_size=SIZE) as process:
        if hasattr(os, "sched_getaffinity"):
            assert len(os.sched_getaffinity(process._process.pid)) == 1
        assert set(process.step().components) == set(COMPONENTS)
        now, most = process.memory()
        assert most >= now > 1e7
    assert dict(os.environ) == environment
    assert not process._process.is_alive()


def test_a_process_that_fails_to_load_ends():
    process = TimedProcess(none, threads=1)
    with pytest.raises(EngineError, match="there is no model"):
        process.__enter__()
    assert not process._process.is_alive()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads must be at least 1"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"threads": 100_000}, "for 100000 threads; ask for fewer"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        measure_in_turns({"good": FakeBackend}, **settings)


def test_ratios_refer_to_the_first_that_ran():
    times = dict.fromkeys(COMPONENTS, 0.01)
    slow = Timing(frames=[FrameTime(times, 0.1)])
    fast = Timing(frames=[FrameTime(times, 0.05), FrameTime(times, 0.06), FrameTime(times, 0.04)])
    table = format_timings({"failed": Timing(error="no"), "slow": slow, "fast": fast})
    lines = table.splitlines()
    assert "1.00x" in lines[1]
    assert "50.0 (40.0 to 60.0)" in lines[2]
    assert "2.00x" in lines[2]
    assert lines[3] == "failed: no"
    assert fast.parts["rest"] == pytest.approx(10.0)
    assert format_timings({"failed": Timing(error="no")}) == "failed: no"


def test_memory_of_this_process():
    block = np.ones(30_000_000)
    now, most = resident_memory()
    assert most >= now >= block.nbytes
