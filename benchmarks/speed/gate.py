"""What the gate for model files costs: its time, and the time in which a model opens.

Both are processor seconds in one process with one thread, which opens the model once before, so
that imports and what is found out about the processor count for nothing. They are measured in
turns, and the smallest of ``--repeat`` times counts.

Example::

    python -m benchmarks.speed.gate model.onnx --repeat 5
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import report_on_models
from qsam2_deploy.cli._main import command


def measure(path: Path, repeat: int) -> dict[str, Any]:
    """Return the seconds of the gate, of what it replaced, and of opening ``path``."""
    from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
    from qsam2_deploy.model_file import gate
    from qsam2_deploy.model_file.bundle import read_model
    from qsam2_deploy.model_file.consistency import check_interface, check_quantization

    def open_model() -> None:
        with OrtBackend(path, 1):
            pass

    def earlier_checks() -> None:
        check_interface(model, spec, str(path))
        check_quantization(model, spec, str(path))

    whole = read_model(path)
    model, spec = whole.model, whole.spec
    open_model()
    work = {
        "checks": lambda: gate.check_model(model, spec, str(path)),
        "metadata": earlier_checks,
        "opening": open_model,
    }
    times = {name: min(found) for name, found in _in_turns(work, repeat).items()}
    cost = times["checks"] - times["metadata"]
    return {
        "model": path.name,
        "bytes": path.stat().st_size,
        "nodes": len(model.graph.node),
        "seconds": {"gate": cost, "metadata": times["metadata"], "opening": times["opening"]},
        "slower": cost / (times["opening"] - cost),
    }


def _in_turns(work: Mapping[str, Callable[[], None]], repeat: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeat):
        for name, do in work.items():
            began = time.process_time()
            do()
            times[name].append(time.process_time() - began)
    return times


def described(row: dict[str, Any]) -> str:
    """Return what is printed of a model."""
    seconds = row["seconds"]
    return (
        f"{row['model']}: gate {1e3 * seconds['gate']:.0f} ms, opening "
        f"{1e3 * seconds['opening']:.0f} ms, {row['slower']:.1%} slower with the gate"
    )


@command("benchmarks.speed.gate")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    return report_on_models("gate", __doc__, measure, described, argv)


if __name__ == "__main__":
    sys.exit(main())
