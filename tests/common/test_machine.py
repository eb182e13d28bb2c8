"""How many threads may compute at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qsam2_deploy._common import machine
from qsam2_deploy._common.machine import usable_threads

ROOT = Path(__file__).parents[2]


def test_cores_not_processors_are_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 6})
    monkeypatch.setattr(machine, "_quota", lambda: 99)
    monkeypatch.setattr(machine, "_first_line", lambda p: {"cpu0": "0,4", "cpu4": "0,4", "cpu1": "1,5", "cpu5": "1,5"}.get(p.parts[-3], ""))  # fmt: skip # noqa: E501
    assert usable_threads() == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "5000 100000"}, 1),
        ({"/sys/fs/cgroup/a/b/cpu.max": "max 1", "/sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
          "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
          "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "what is this"}, 8),
    ],
)  # fmt: skip
def test_a_quota_of_time_is_not_exceeded(monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    known = {"/proc/self/cgroup": "9:cpu:/x\n0::/a/b\n", **files}
    monkeypatch.setattr(machine, "_lines", lambda p: known.get(str(p), "").splitlines())
    assert usable_threads() == expected


_ON_ONE = """
import os, sys
from pathlib import Path
processor = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {processor})
import numpy as np
from qsam2_deploy.runtime import Prompt, VideoSegmenter
with VideoSegmenter(sys.argv[1], sys.argv[2]) as segmenter:
    segmenter.track(np.zeros((48, 64, 3), np.uint8), [Prompt(1, [(20, 20)], [1])])
    segmenter.track(np.zeros((48, 64, 3), np.uint8))
    tasks = Path("/proc/self/task").iterdir()
    status = [dict(l.split(":", 1) for l in (t / "status").read_text().splitlines()) for t in tasks]
print({s["Cpus_allowed_list"].strip() for s in status} == {str(processor)})
print(segmenter._backend._threads)
"""


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_no_thread_leaves_the_processors_of_the_process(model_path, engine):
    pytest.importorskip({"ort": "onnxruntime"}.get(engine, engine))
    line = [sys.executable, "-c", _ON_ONE, str(model_path), engine]
    made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["True", "1"]
