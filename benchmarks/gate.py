"""What the gate for model files costs: its time, and the time in which a model opens.

Both are measured in one fresh process that opens the model once before, so that imports and what
is found out about the processor count for nothing; the smallest times of ``--repeat`` count.

Example::

    python -m benchmarks.gate model.onnx --repeat 5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import add_report_options, write_report
from qsam2_deploy.cli._main import command


def measure(path: Path, repeat: int) -> dict[str, Any]:
    """Return the seconds of the gate, of what it replaced, and of opening ``path``."""
    from qsam2_deploy.runtime import gate
    from qsam2_deploy.runtime.bundle import read_model
    from qsam2_deploy.runtime.consistency import check_interface, check_quantization
    from qsam2_deploy.runtime.ort import OrtBackend

    def open_model() -> None:
        with OrtBackend(path, 1):
            pass

    def earlier_checks() -> None:
        check_interface(model, spec, str(path))
        check_quantization(model, spec, str(path))

    whole = read_model(path)
    model, spec = whole.model, whole.spec
    open_model()
    checks = _smallest(lambda: gate.check_model(model, spec, str(path)), repeat)
    earlier = _smallest(earlier_checks, repeat)
    opening = _smallest(open_model, repeat)
    return {
        "model": path.name,
        "bytes": path.stat().st_size,
        "nodes": len(model.graph.node),
        "seconds": {"gate": checks - earlier, "metadata": earlier, "opening": opening},
        "slower": (checks - earlier) / (opening - checks + earlier),
    }


def _smallest(work: Callable[[], None], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@command("benchmarks.gate")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default 5)")
    add_report_options(parser)
    args = parser.parse_args(argv)
    rows = [measure(model, args.repeat) for model in args.models]
    for row in rows:
        seconds = row["seconds"]
        print(
            f"{row['model']}: gate {1e3 * seconds['gate']:.0f} ms, opening "
            f"{1e3 * seconds['opening']:.0f} ms, {row['slower']:.1%} slower with the gate"
        )
    write_report("gate", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
