"""The processor that this program runs on."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path


def cpu_model() -> str:
    """Return the processor's name."""
    lines = _lines(Path("/proc/cpuinfo"))
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_threads() -> int:
    """Return how many threads can compute at the same time: as many as there are cores for them.

    Counted are cores of which this process may use a processor (``taskset``, cpusets): two of one
    core share its arithmetic units. A quota of time (``docker run --cpus``) is not exceeded.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = {_core(processor) for processor in allowed}
    return max(1, min(len(cores) or os.cpu_count() or 1, _quota()))


def _core(processor: int) -> str:
    """Return the processors of one core, of which this is one."""
    topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
    return _first_line(topology / "thread_siblings_list") or str(processor)


def _quota() -> int:
    """Return how many processors' time the control group may use, rounded up."""
    quotas = [_first_line(group / "cpu.max").split() for group in _control_groups()]
    shares = [int(q[0]) / int(q[1]) for q in quotas if len(q) == 2 and q[0].isdecimal()]
    old = Path("/sys/fs/cgroup/cpu")
    quota, period = (_first_line(old / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal():
        shares.append(int(quota) / int(period))
    return min((math.ceil(share) for share in shares), default=sys.maxsize)


def _control_groups() -> list[Path]:
    """Return this process's folder of control groups, and those above it."""
    root = Path("/sys/fs/cgroup")
    lines = [line for line in _lines(Path("/proc/self/cgroup")) if line.startswith("0::")]
    inner = Path(lines[0].removeprefix("0::").lstrip("/")) if lines else Path()
    return [root / inner, *(root / parent for parent in inner.parents)]


def _first_line(path: Path) -> str:
    return next(iter(_lines(path)), "")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []
