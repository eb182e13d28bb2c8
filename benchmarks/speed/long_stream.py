"""What a long stream leaves in a process: resident memory, open files and threads.

Two objects are tracked, of which one is corrected and one goes and comes again as another, each
round of the clip; with ``--opens`` the model is then opened, run and closed again and again. The
exit status is 1 if the process grew by more than the limit, or has more files or threads than after
the first frames.

Example::

    python -m benchmarks.speed.long_stream --frames 100000 --warm-up 1000 --opens 1000
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks._report import benchmark_parser, resident_mib, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.runtime import Prompt, VideoSegmenter
from tests.parity.clip import HEIGHT, WIDTH, frame
from tests.support.tiny_model import tiny_bytes

LIMIT_MIB = 20.0
WARM_UP = 50
CLIP = 40
"""Frames of the generated clip, which is shown again and again."""

_EXPORT = """
import sys
from pathlib import Path
from benchmarks._models import random_checkpoint
from qsam2_deploy.export import onnx_from_checkpoint
checkpoint, config = random_checkpoint(Path(sys.argv[1]))
onnx_from_checkpoint(checkpoint, sys.argv[2], config=config, show_progress=False)
"""


def random_model(folder: Path) -> Path:
    """Export a tiny model in another process, so that torch's memory is not in ours."""
    model = folder / "model.onnx"
    subprocess.run([sys.executable, "-c", _EXPORT, str(folder), str(model)], check=True)
    return model


def nothing(folder: Path) -> Path:
    """Write a model of the right inputs and outputs, so that nearly all of the time is ours."""
    model = folder / "model.onnx"
    model.write_bytes(tiny_bytes())
    return model


@dataclass(frozen=True)
class Usage:
    """What the process holds.

    Attributes:
        count: frames tracked or times opened before.
        resident_mib: resident memory.
        files: open file descriptors.
        threads: of Python and of engines.
    """

    count: int
    resident_mib: float
    files: int
    threads: int

    @classmethod
    def now(cls, count: int) -> Usage:
        """Measure this process."""
        files = len(list(Path("/proc/self/fd").iterdir())) - 1  # one of them lists the folder
        threads = len(list(Path("/proc/self/task").iterdir()))
        return cls(count, round(resident_mib(), 1), files, threads)

    def grown(self, before: Usage) -> bool:
        """Whether this is more than ``before``, and in memory by more than the limit."""
        more = self.files > before.files or self.threads > before.threads
        return more or self.resident_mib - before.resident_mib >= LIMIT_MIB


def stream(model: Path, frames: int, threads: int, warm_up: int) -> list[Usage]:
    """Track objects that come, are corrected and go; return what was held on the way."""
    clip = [frame(index) for index in range(CLIP)]
    box = (WIDTH * 0.55, HEIGHT * 0.25, WIDTH * 0.92, HEIGHT * 0.66)
    click = [(WIDTH * 0.32, HEIGHT * 0.48)]
    found: list[Usage] = []
    every = max(250, frames // 20)
    with VideoSegmenter(model, "ort", threads=threads) as segmenter:
        for index in range(frames):
            turn = index % CLIP
            prompts = [Prompt(object_id=2 + index // CLIP, box=box)] if turn == 0 else []
            if index == 0:
                prompts.append(Prompt(object_id=1, points=click, labels=[1]))
            segmenter.track(clip[turn], prompts)
            if turn == CLIP // 2:
                segmenter.refine(Prompt(object_id=1, points=click, labels=[1]))
            if turn == CLIP - 1:
                segmenter.remove(2 + index // CLIP)
            if index + 1 in (warm_up, frames) or (index + 1) % every == 0:
                found.append(_told(Usage.now(index + 1), "frames"))
    return found


def opened(model: Path, times: int, threads: int) -> list[Usage]:
    """Open the model, track one frame, and close it again; return what was held on the way."""
    prompt = Prompt(object_id=1, points=[(WIDTH * 0.32, HEIGHT * 0.48)], labels=[1])
    picture, found = frame(0), []
    for index in range(times):
        with VideoSegmenter(model, "ort", threads=threads) as segmenter:
            segmenter.track(picture, [prompt])
        if index + 1 in (times // 10, times):
            found.append(_told(Usage.now(index + 1), "opens"))
    return found


def _told(usage: Usage, what: str) -> Usage:
    print(
        f"after {usage.count:6} {what}: {usage.resident_mib:.1f} MiB, {usage.files} files, "
        f"{usage.threads} threads",
        flush=True,
    )
    return usage


@command("benchmarks.speed.long_stream")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if memory grew by more than the limit."""
    parser = benchmark_parser("benchmarks.speed.long_stream", __doc__)
    add = parser.add_argument
    add("--model", type=Path, help="default: a tiny one with random weights")
    add("--nothing", action="store_true", help="a model that computes nothing, for many frames")
    add("--frames", type=int, default=2000)
    add("--warm-up", type=int, default=WARM_UP, help="frames that may still grow")
    add("--opens", type=int, default=0, help="times to open and close the model")
    add("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    if args.frames <= args.warm_up:
        parser.error(f"--frames must be more than {args.warm_up}, but got {args.frames}")
    if args.opens and args.opens < 10:
        parser.error(f"--opens must be 0 or at least 10, but got {args.opens}")
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or (nothing if args.nothing else random_model)(Path(folder))
        started = time.perf_counter()
        frames = stream(model, args.frames, args.threads, args.warm_up)
        seconds = time.perf_counter() - started
        opens = opened(model, args.opens, args.threads)
    first = next(usage for usage in frames if usage.count == args.warm_up)
    runs = [(first, frames[-1]), *([(opens[0], opens[-1])] if opens else [])]
    growth = [round(last.resident_mib - begin.resident_mib, 1) for begin, last in runs]
    print(f"growth in MiB: {growth} (limit {LIMIT_MIB:.0f}), {args.frames / seconds:.1f} frames/s")
    results = {
        "frames": args.frames,
        "usage": [asdict(usage) for usage in frames],
        "opens": [asdict(usage) for usage in opens],
        "growth_mib": growth,
        "seconds": seconds,
    }
    write_report("long_stream", results, args.json)
    return 1 if any(last.grown(begin) for begin, last in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
