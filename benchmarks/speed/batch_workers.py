"""Many videos with one worker and with several, each with one thread, taking turns.

All runs use the same cores and write masks; a run's time is that of the whole batch, with starting
the workers and opening the model in each. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._loop import CLIP
from benchmarks._report import benchmark_parser, usable_cores, write_report
from qsam2_deploy.batch import BatchOptions, Job, run_batch
from qsam2_deploy.batch.prompts import GivenPrompts
from qsam2_deploy.cli._main import command
from qsam2_deploy.errors import InputError
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags


def run(model: Path, workers: int, videos: int, backend: str) -> dict[str, Any]:
    """Segment the demo clip so many times; return frames per second and the workers' seconds.

    Raises:
        InputError: a video failed.
    """
    prompts = GivenPrompts(tuple(prompts_from_flags(["88,180"])))
    jobs = [Job(f"{number:03d}", str(CLIP), prompts) for number in range(videos)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        options = BatchOptions(str(model), folder, {"masks": "masks"}, backend=backend)
        summary = run_batch(jobs, options, workers=workers, show_progress=False)
    if summary.of("failed"):
        raise InputError(f"a video failed: {summary.of('failed')[0].reason}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "seconds": summary.seconds,
        "cpu_seconds": cpu,
        "frames": summary.frames,
        "frames_per_second": summary.fps,
        "engine": summary.engine,
    }


@command("benchmarks.speed.batch_workers")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.speed.batch_workers", __doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="beside one (cores)")
    parser.add_argument("--videos", type=int, default=16, help="in each run (16)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in turns (3)")
    parser.add_argument("--backend", default="ort", help="engine (ort)")
    args = parser.parse_args(argv)
    if min(args.workers, args.videos, args.repeat) < 1:
        parser.error("--workers, --videos and --repeat must be at least 1")
    runs = []
    for _ in range(args.repeat):
        for workers in (1, args.workers):
            runs.append(run(args.model, workers, args.videos, args.backend))
            print(
                f"{workers} workers: {runs[-1]['frames_per_second']:.2f} frames per second, "
                f"{1e3 * runs[-1]['cpu_seconds'] / runs[-1]['frames']:.1f} ms of processor each",
                flush=True,
            )
    rates = [
        median(item["frames_per_second"] for item in runs if item["workers"] == workers)
        for workers in (1, args.workers)
    ]
    print(f"{args.workers} workers do {rates[1] / rates[0]:.2f} times as much as 1")
    results = {"runs": runs, "ratio": rates[1] / rates[0]}
    write_report("batch_workers", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
