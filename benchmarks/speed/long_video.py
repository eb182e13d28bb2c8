"""What the drop-in video predictor holds after hours, and what keeping old frames on disk costs.

A clip is shown again and again as one video with two objects. Resident memory is measured after the
first frames and at the end; the exit status is 1 if it grew by more than the limit. Then two
predictors track the same frames in turns, one of which keeps every frame in memory.

Example::

    python -m benchmarks.speed.long_video demo.onnx --frames 20000
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._report import benchmark_parser, resident_mib, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.media.reading.sources import open_indexed
from qsam2_deploy.runtime import SAM2VideoPredictor
from qsam2_deploy.tracking.memory import MemoryBank

LIMIT_MIB = 50.0
WARM_UP = 200
TURN = 8
"""Frames that one predictor tracks before it is the other one's turn."""

CLIP = Path("assets/demo_clip.mp4")
CLICKS = ((88, 180), (200, 80))


class Again(Sequence[npt.NDArray[np.uint8]]):
    """Frames of a clip, shown again and again, as a list of so many arrays."""

    def __init__(self, clip: Path, frames: int) -> None:
        """Decode ``clip``."""
        with open_indexed(clip) as video:
            self._clip = [video[index] for index in range(len(video))]
        self._frames = frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._frames:
            raise IndexError(index)
        return self._clip[index % len(self._clip)]


def tracked(predictor: SAM2VideoPredictor, frames: Again, *, spilled: bool) -> Generator[Any]:
    """Track two objects through the frames."""
    state = predictor.init_state(frames)
    if not spilled:
        state.new_bank = MemoryBank
    for number, click in enumerate(CLICKS):
        predictor.add_new_points_or_box(state, 0, number, points=[click], labels=[1])
    yield from predictor.propagate_in_video(state)


def growth(model: Path, frames: Again, threads: int) -> dict[str, Any]:
    """Return what the process holds after the first frames and at the end."""
    found: dict[str, Any] = {}
    with SAM2VideoPredictor(model, "ort", threads=threads, show_progress=False) as predictor:
        for frame, _, _ in tracked(predictor, frames, spilled=True):
            if frame + 1 in (WARM_UP, len(frames)) or (frame + 1) % 1000 == 0:
                found[str(frame + 1)] = round(resident_mib(), 1)
                print(f"after {frame + 1:6} frames: {found[str(frame + 1)]:.1f} MiB", flush=True)
    return found


def cost(model: Path, frames: Again, threads: int, turns: int) -> dict[str, Any]:
    """Return the milliseconds of a frame with old ones on disk, and with all in memory."""
    with SAM2VideoPredictor(model, "ort", threads=threads, show_progress=False) as predictor:
        ways = {
            way: tracked(predictor, frames, spilled=way == "disk") for way in ("disk", "memory")
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(turns):
            for way in list(ways) if turn % 2 else reversed(list(ways)):
                began = time.perf_counter()
                for _ in range(TURN):
                    next(ways[way])
                times[way].append((time.perf_counter() - began) / TURN * 1000)
        for way in ways.values():
            way.close()
    ratios = [d / m for d, m in zip(times["disk"][1:], times["memory"][1:], strict=True)]
    found = {way: round(median(rows[1:]), 2) for way, rows in times.items()}
    return {**found, "median_ratio": round(median(ratios), 4)}


@command("benchmarks.speed.long_video")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if memory grew by more than the limit."""
    parser = benchmark_parser("benchmarks.speed.long_video", __doc__)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.onnx")
    add("--clip", type=Path, default=CLIP)
    add("--frames", type=int, default=2000)
    add("--turns", type=int, default=100, help=f"turns of {TURN} frames, for the cost")
    add("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    if args.frames <= WARM_UP or args.turns < 2:
        parser.error(f"--frames must be more than {WARM_UP}, and --turns at least 2")
    costs = cost(args.model, Again(args.clip, args.turns * TURN + 1), args.threads, args.turns)
    print(f"ms per frame: {costs['disk']} on disk, {costs['memory']} in memory; "
          f"ratio {costs['median_ratio']}")  # fmt: skip
    memory = growth(args.model, Again(args.clip, args.frames), args.threads)
    grown = round(memory[str(args.frames)] - memory[str(WARM_UP)], 1)
    print(f"growth after the first {WARM_UP} of {args.frames} frames: {grown} MiB")
    results = {"frames": args.frames, "resident_mib": memory, "growth_mib": grown, "cost": costs}
    write_report("long_video", results, args.json)
    return 1 if grown >= LIMIT_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
