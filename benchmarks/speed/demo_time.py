"""How long ``make demo`` takes, from the start of its process to the end, and what it scores.

The environment must be set up already, as after a first ``make demo``. The exit status is 1 if it
took longer than the limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks._report import ROOT, benchmark_parser, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.kernels import find_kernels
from qsam2_deploy.errors import InputError

DEMO = ROOT / "examples" / "demo.py"
LIMIT_SECONDS = 90.0
_SCORES = "J&F, percent"


def run_demo(bits: str) -> dict[str, Any]:
    """Run the demo in a fresh process and return its seconds and both models' J&F in percent.

    Raises:
        InputError: it failed, or printed no scores.
    """
    # The package beside this file is measured, whatever else is installed.
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, str(DEMO), "--bits", bits, "--output", folder]
        started = time.perf_counter()
        result = subprocess.run(
            line, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    if result.returncode:
        raise InputError(f"the demo failed with exit status {result.returncode}; see above")
    return {
        "seconds": seconds,
        "j_and_f": dict(zip(("float", bits), scores(result.stdout), strict=True)),
    }


def scores(output: str) -> tuple[float, float]:
    """Return J&F of the float and of the quantized model from the table that the demo prints.

    Raises:
        InputError: there is none.
    """
    rows = [line.removeprefix(_SCORES) for line in output.splitlines() if line.startswith(_SCORES)]
    if len(rows) != 1:
        raise InputError(
            f"the demo must print one row {_SCORES!r}, but printed {len(rows)}; it needs "
            "assets/demo.pt and the masks of its clip"
        )
    first, second = map(float, rows[0].split())
    return first, second


@command("benchmarks.speed.demo_time")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if the demo took longer than the limit."""
    parser = benchmark_parser("benchmarks.speed.demo_time", __doc__)
    parser.add_argument("--bits", default="w8a8", help="widths of the quantized model")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    args = parser.parse_args(argv)
    if args.repeat < 1:
        parser.error(f"--repeat must be at least 1, but got {args.repeat}")
    runs = []
    for _ in range(args.repeat):
        runs.append(run_demo(args.bits))
        print(f"{runs[-1]['seconds']:.1f} s, J&F {runs[-1]['j_and_f']}", flush=True)
    seconds = median(run["seconds"] for run in runs)
    results = {
        "seconds": seconds,
        "limit_seconds": LIMIT_SECONDS,
        "kernels": find_kernels() is not None,
        "runs": runs,
    }
    write_report("demo_time", results, args.json)
    return int(seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
