"""Time per tracked frame: our runtime and the official predictor, side by side.

All get the same click on the same frames and take turns, frame by frame, so that the machine's
other load hits all alike. Reading a frame is part of our time; the official predictor reads all
frames beforehand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._report import benchmark_parser, quiet_official_predictor, write_report

if __name__ == "__main__":
    quiet_official_predictor()

import torch

from benchmarks import _models
from qsam2_deploy.cli._main import command
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.runtime import SAM2VideoPredictor

STEADY = 7
"""From this frame on, all memory slots are filled."""


def timed(predictor: Any, video: Path, size: tuple[int, int]) -> Iterator[float]:
    """Click once, then yield the seconds of each tracked frame."""
    state = predictor.init_state(str(video))
    point = [[0.32 * size[0], 0.48 * size[1]]]
    predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=point, labels=[1])
    results = iter(predictor.propagate_in_video(state))
    next(results)  # the frame with the click was segmented already
    while True:
        started = time.perf_counter()
        if next(results, None) is None:
            return
        yield time.perf_counter() - started


def measure(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each frame after the first, for every contender."""
    if args.checkpoint is None:
        args.checkpoint, args.config = _models.random_checkpoint(folder)
    checkpoint = load_checkpoint(args.checkpoint, config=args.config, image_size=args.image_size)
    video = folder / "frames"
    size = _models.write_frames(args.video, video, args.frames)
    sources: dict[str, Any] = {"ours, float": checkpoint}
    for path in args.quantized:
        sources[f"ours, {path.stem}"] = path
    with ExitStack() as stack:
        contenders: dict[str, Any] = {}
        for name, source in sources.items():
            model = folder / f"{name}.onnx"
            onnx_from_checkpoint(source, model, show_progress=False)
            predictor = SAM2VideoPredictor(
                model, args.backend, threads=args.threads, show_progress=False
            )
            contenders[name] = stack.enter_context(predictor)
        contenders["official"] = checkpoint.model
        return take_turns(contenders, video, size)


def take_turns(
    contenders: dict[str, Any], video: Path, size: tuple[int, int]
) -> dict[str, list[float]]:
    """Time every contender on a frame before any goes on to the next."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    runs = [timed(predictor, video, size) for predictor in contenders.values()]
    for index, times in enumerate(zip(*runs, strict=True), start=1):
        for name, value in zip(seconds, times, strict=True):
            seconds[name].append(value)
        shown = ", ".join(f"{n} {v[-1] * 1e3:.1f} ms" for n, v in seconds.items())
        print(f"frame {index}: {shown}", flush=True)
    return seconds


@command("benchmarks.speed.frame_time")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.speed.frame_time", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, help="default: a tiny one with random weights")
    add("--config", type=Path, help="YAML of the architecture")
    add("--quantized", type=Path, nargs="+", default=[], help="time these checkpoints as well")
    add("--image-size", type=int, help="replaces the configured image size")
    add("--video", type=Path, help="default: a generated clip")
    add("--frames", type=int, default=12)
    add("--backend", default="ort")
    add("--threads", type=int, default=1, help="for all (default: 1)")
    args = parser.parse_args(argv)
    if args.frames <= STEADY:
        parser.error(f"--frames must be more than {STEADY}, but got {args.frames}")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(args, Path(folder))
    steady = {name: median(values[STEADY - 1 :]) * 1e3 for name, values in seconds.items()}
    ratios = {name: steady["official"] / value for name, value in steady.items()}
    for name, value in steady.items():
        print(
            f"median from frame {STEADY} on: {name} {value:.1f} ms, "
            f"{ratios[name]:.2f} times as fast as the official predictor"
        )
    results = {
        "checkpoint": args.checkpoint.name,
        "quantized": [path.name for path in args.quantized],
        "image_size": args.image_size,
        "threads": args.threads,
        "seconds": seconds,
        "steady_ms": steady,
        "ratio": ratios,
    }
    write_report("frame_time", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
