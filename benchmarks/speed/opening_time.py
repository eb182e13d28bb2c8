"""How long a model takes to open, without a cache of lowered graphs, with an empty and a full one.

Each time is that of a fresh process from the construction of the backend to its four sessions, the
import of ONNX Runtime excluded. Every case is repeated; the smallest time counts.

Example::

    python -m benchmarks.speed.opening_time model.onnx --repeat 5
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import ROOT, report_on_models
from qsam2_deploy.cli._main import command

_OPEN = """
import json, sys, time
import onnx, onnxruntime
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
model, cache = sys.argv[1], sys.argv[2] or None
wall, processor = time.perf_counter(), time.process_time()
with OrtBackend(model, 1, cache=cache):
    print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))
"""

CASES = ("without a cache", "cache is made", "cache is used")


def open_once(model: Path, cache: str) -> tuple[float, float]:
    """Return wall and processor seconds of one opening in a fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", _OPEN, str(model.resolve()), cache],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wall, processor = json.loads(result.stdout)
    return wall, processor


def measure(model: Path, repeat: int) -> dict[str, Any]:
    """Open ``model`` in all three ways, taking turns."""
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    size = 0
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            for case, cache in zip(CASES, ("", folder, folder), strict=True):
                times[case].append(open_once(model, cache))
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
    seconds = {
        case: {"wall": min(w for w, _ in found), "processor": min(p for _, p in found)}
        for case, found in times.items()
    }
    return {
        "model": model.name,
        "bytes": model.stat().st_size,
        "cache_bytes": size,
        "seconds": seconds,
    }


def described(row: dict[str, Any]) -> str:
    """Return what is printed of a model."""
    lines = [
        f"{row['model']}: {row['bytes'] / 1e6:.1f} MB, cache {row['cache_bytes'] / 1e6:.1f} MB"
    ]
    for case, seconds in row["seconds"].items():
        lines.append(f"  {case:16}{seconds['wall']:7.3f} s, processor {seconds['processor']:.3f} s")
    return "\n".join(lines)


@command("benchmarks.speed.opening_time")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    return report_on_models("opening_time", __doc__, measure, described, argv)


if __name__ == "__main__":
    sys.exit(main())
