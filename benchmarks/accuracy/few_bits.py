"""How far masks of few bits are apart: OpenVINO from ONNX Runtime, and that from itself.

Two frames of a video are tracked from clicks all over the first one, in ONNX Runtime, in OpenVINO,
and in ONNX Runtime with 1 % of the values of the frames moved by one level of 255 at most. Printed
is the IoU of each with the first, lowest first, of the first frame's masks of 100 pixels or more.

Example::

    python -m benchmarks.accuracy.few_bits w2a2.onnx --video demo_output/clip.mp4
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.runtime import Prompt, VideoSegmenter

CLICKS = (
    (0.34, 0.70), (0.50, 0.50), (0.23, 0.23), (0.78, 0.39), (0.59, 0.86), (0.12, 0.78),
    (0.86, 0.16),
)  # fmt: skip
"""Share of width and height."""

FEWEST_PIXELS = 100


def _masks(model: Path, engine: str, frames: Sequence[Any]) -> list[Any]:
    height, width = frames[0].shape[:2]
    found = []
    with VideoSegmenter(model, engine, threads=1) as segmenter:
        for x, y in CLICKS:
            segmenter.reset()
            prompt = Prompt(object_id=1, points=[(x * width, y * height)], labels=[1])
            found.append(segmenter.track(frames[0], [prompt])[1].mask)
            segmenter.track(frames[1])
    return found


def _moved(frames: Sequence[Any]) -> list[Any]:
    rng = np.random.default_rng(0)
    moved = []
    for frame in frames:
        steps = rng.integers(-1, 2, frame.shape) * (rng.random(frame.shape) < 0.01)
        moved.append(np.clip(frame.astype(int) + steps, 0, 255).astype(np.uint8))
    return moved


@command("benchmarks.accuracy.few_bits")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser("benchmarks.accuracy.few_bits", __doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--video", type=Path, required=True)
    args = parser.parse_args(argv)
    with open_frames(args.video) as source:
        frames = [np.ascontiguousarray(frame) for frame in islice(source, 2)]
    reference = _masks(args.model, "ort", frames)
    others = {
        "openvino": _masks(args.model, "openvino", frames),
        "ort, frames moved": _masks(args.model, "ort", _moved(frames)),
    }
    rows = {}
    for name, masks in others.items():
        pairs = [(a, b) for a, b in zip(masks, reference, strict=True) if b.sum() >= FEWEST_PIXELS]
        rows[name] = sorted(round(float((a & b).sum() / (a | b).sum()), 4) for a, b in pairs)
        print(f"{name:20}", *(f"{iou:.4f}" for iou in rows[name]))
    write_report("few_bits", {"model": args.model.name, "iou": rows}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
