"""How fast each path of our kernels is on one processor, taking turns; and ONNX Runtime's own.

The image encoder and the memory attention (7 memories, 16 pointers) of a quantized model run on one
core with each path that this processor has, one after the other, round by round; the medians are
told. ``--library`` adds libraries of other versions, such as those that ``~/.cache`` still holds.

Example::

    python -m benchmarks.speed.kernel_paths w8a8.onnx --json kernel_paths.json
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._report import benchmark_parser, write_report
from benchmarks.speed.exact_products import feeds_of
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
from qsam2_deploy.engines.onnxruntime.kernels import find_kernels
from qsam2_deploy.errors import EngineError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.tensors import copy_of
from qsam2_deploy.spec import IMAGE_ENCODER, MEMORY_ATTENTION

PATHS = ("avx512vnni", "avxvnni", "avx2", "neon", "generic")
_VARIABLE = "QSAM2_KERNEL_PATH"


def runs_of(component: Any, feeds: Any, libraries: Sequence[Path]) -> dict[str, Callable[[], Any]]:
    """Return what runs a component, by the name of its way."""
    found = {}
    for library in libraries:
        for path in PATHS:
            name = path if len(libraries) == 1 else f"{path} of {library.stem[-8:]}"
            os.environ[_VARIABLE] = path
            try:
                session = session_from_onnx(copy_of(component), 1, kernels=library)
            except EngineError:  # this processor has no such path
                continue
            finally:
                del os.environ[_VARIABLE]
            found[name] = lambda session=session: session.run(None, feeds)
    session = session_from_onnx(copy_of(component), 1)
    found["ONNX Runtime's own"] = lambda: session.run(None, feeds)
    return found


def measure(model: Path, libraries: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Return the milliseconds of both components in every way."""
    bundle, results = read_bundle(model), {}
    for name in (IMAGE_ENCODER, MEMORY_ATTENTION):
        runs = runs_of(bundle.components[name], feeds_of(bundle.spec, name), libraries)
        times: dict[str, list[float]] = {way: [] for way in runs}
        for _ in range(rounds):
            for way, run in runs.items():
                began = time.perf_counter()
                run()
                times[way].append(1e3 * (time.perf_counter() - began))
        results[name] = {way: round(median(values), 2) for way, values in times.items()}
        for way, milliseconds in results[name].items():
            print(f"{name:>16}, {way}: {milliseconds} ms", flush=True)
    return results


@command("benchmarks.speed.kernel_paths")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser("benchmarks.speed.kernel_paths", __doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--rounds", type=int, default=9, help="runs of each (default 9)")
    parser.add_argument("--library", type=Path, action="append", default=[], help="another one")
    args = parser.parse_args(argv)
    own = find_kernels(True)
    assert own is not None
    results = measure(args.model, [own, *args.library], args.rounds)
    write_report("kernel_paths", {"model": args.model.name, "components": results}, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
