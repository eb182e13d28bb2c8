"""Memory of a long stream: resident size after some frames and at the end.

The exit status is 1 if the process grew by more than the limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._report import add_report_options, resident_mib, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.runtime import Prompt, VideoSegmenter
from tests.parity.clip import HEIGHT, WIDTH, frame

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


def stream(model: Path, frames: int, threads: int) -> list[tuple[int, float]]:
    """Track two objects and return pairs of frame number and resident MiB."""
    clip = [frame(index) for index in range(CLIP)]
    prompts = [
        Prompt(object_id=1, points=[(WIDTH * 0.32, HEIGHT * 0.48)], labels=[1]),
        Prompt(object_id=2, box=(WIDTH * 0.55, HEIGHT * 0.25, WIDTH * 0.92, HEIGHT * 0.66)),
    ]
    sizes = []
    with VideoSegmenter(model, "ort", threads=threads) as segmenter:
        for index in range(frames):
            segmenter.track(clip[index % CLIP], prompts if index == 0 else ())
            if index + 1 == WARM_UP or (index + 1) % 250 == 0 or index + 1 == frames:
                sizes.append((index + 1, resident_mib()))
                print(f"after {index + 1:5} frames: {sizes[-1][1]:.1f} MiB", flush=True)
    return sizes


@command("benchmarks.long_stream")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if memory grew by more than the limit."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_stream", description=__doc__)
    parser.add_argument("--model", type=Path, help="default: a tiny one with random weights")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    add_report_options(parser)
    args = parser.parse_args(argv)
    if args.frames <= WARM_UP:
        parser.error(f"--frames must be more than {WARM_UP}, but got {args.frames}")
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_model(Path(folder))
        started = time.perf_counter()
        sizes = stream(model, args.frames, args.threads)
        seconds = time.perf_counter() - started
    growth = sizes[-1][1] - sizes[0][1]
    print(
        f"growth from frame {WARM_UP} to {args.frames}: {growth:.1f} MiB (limit {LIMIT_MIB:.0f}), "
        f"{args.frames / seconds:.1f} frames per second"
    )
    results = {
        "frames": args.frames,
        "resident_mib": sizes,
        "growth_mib": growth,
        "seconds": seconds,
    }
    write_report("long_stream", results, args.json)
    return 0 if growth < LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
