"""Time to import the package and the runtime, each in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from benchmarks._report import ROOT, benchmark_parser, write_report
from qsam2_deploy.cli._main import command

MODULES = ("numpy", "qsam2_deploy", "qsam2_deploy.runtime", "qsam2_deploy.predictors.segmenter")
"""numpy for comparison: the runtime cannot be faster than what it needs."""


def seconds(module: str) -> float:
    """Return the seconds of one import in a fresh process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(result.stdout)


@command("benchmarks.speed.import_time")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.speed.import_time", __doc__)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args(argv)
    results = {}
    for module in MODULES:
        seconds(module)  # fills the caches of byte code and of the file system
        results[module] = median(seconds(module) for _ in range(args.repeat))
        print(f"{module:32} {results[module] * 1e3:7.1f} ms")
    write_report("import_time", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
