"""Masks of everything in one photo: ours beside the official generator, taking turns.

All search the same points of the same photo with the same thresholds, one after the other, in
each round. Of ours it is also told how long the engine ran, and what the rest took: preparing,
enlarging, measuring and comparing masks. What is opened or loaded beforehand is not counted.

The thresholds are those of the official generator; small models need lower ones, because a run in
which nothing is kept spares what masks cost::

    python -m benchmarks.speed.automatic_masks photo.jpg --checkpoint assets/demo.pt \
        --models float.onnx w8a8.onnx --pred-iou-thresh 0.3 --stability-score-thresh 0.5 \
        --stability-score-offset 0.25 --json out.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.runtime import SAM2AutomaticMaskGenerator
from qsam2_deploy.spec import IMAGE_ENCODER, MASK_DECODER
from qsam2_deploy.timing.steady import Stopwatch
from tests.support.official_masks import official_mask_generator

OFFICIAL = "official, torch float32"
NUMBERS = ("pred_iou_thresh", "stability_score_thresh", "stability_score_offset")

Row = dict[str, float]
Contender = Callable[[npt.NDArray[np.uint8]], Row]


def official(args: argparse.Namespace, options: dict[str, Any]) -> Contender:
    """Open the official generator, in eager torch."""
    model = load_checkpoint(args.checkpoint, config=args.config).model
    generator = official_mask_generator(model.eval(), **options)

    def run(image: npt.NDArray[np.uint8]) -> Row:
        began = time.perf_counter()
        with torch.inference_mode():
            masks = len(generator.generate(image))
        return {"seconds": time.perf_counter() - began, "masks": masks}

    return run


def ours(
    model: Path, args: argparse.Namespace, options: dict[str, Any], stack: ExitStack
) -> Contender:
    """Open one of our models, with a stopwatch around its engine."""
    watch = Stopwatch(open_backend(model, args.backend, args.threads))
    generator = stack.enter_context(SAM2AutomaticMaskGenerator(watch, **options))

    def run(image: npt.NDArray[np.uint8]) -> Row:
        watch.seconds.clear()
        began = time.perf_counter()
        masks = len(generator.generate(image))
        seconds = time.perf_counter() - began
        encoder, decoder = (watch.seconds[name] for name in (IMAGE_ENCODER, MASK_DECODER))
        rest = seconds - encoder - decoder
        parts = {"encoder": encoder, "decoder": decoder, "rest": rest}
        return {"seconds": seconds, "masks": masks, **parts}

    return run


def measure(args: argparse.Namespace) -> dict[str, Row]:
    """Return the medians of every contender over the rounds."""
    options = {name: getattr(args, name) for name in NUMBERS if getattr(args, name) is not None}
    options |= {"points_per_side": args.points_per_side, "points_per_batch": args.points_per_batch}
    with Image.open(args.photo) as photo:
        image = np.array(photo.convert("RGB"))
    rows: dict[str, list[Row]] = {}
    with ExitStack() as stack:
        contenders = {OFFICIAL: official(args, options)}
        for model in args.models:
            contenders[f"ours, {model.stem}"] = ours(model, args, options, stack)
        for number in range(1, args.rounds + 1):
            for name, run in contenders.items():
                row = run(image)
                rows.setdefault(name, []).append(row)
                print(f"round {number}: {name}: {row['seconds']:.2f} s", flush=True)
    return {
        name: {key: median(row[key] for row in given) for key in given[0]}
        for name, given in rows.items()
    }


@command("benchmarks.speed.automatic_masks")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    rows = measure(args)
    for row in rows.values():
        row["ratio"] = rows[OFFICIAL]["seconds"] / row["seconds"]
    for name, row in rows.items():
        parts = ", ".join(
            f"{part} {row[part]:.2f} s" for part in ("encoder", "decoder", "rest") if part in row
        )
        print(
            f"{name}: {row['seconds']:.2f} s, {row['ratio']:.2f} times as fast as the official "
            f"generator, {row['masks']:.0f} masks{'; ' if parts else ''}{parts}"
        )
    results = {
        "photo": args.photo.name,
        "checkpoint": args.checkpoint.name,
        "models": [model.name for model in args.models],
        "points_per_side": args.points_per_side,
        "points_per_batch": args.points_per_batch,
        "thresholds": {name: getattr(args, name) for name in NUMBERS},
        "backend": args.backend,
        "threads": args.threads,
        "rounds": args.rounds,
        "contenders": rows,
    }
    write_report("automatic_masks", results, args.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.speed.automatic_masks", __doc__)
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO")
    add("--checkpoint", type=Path, required=True, help="float, for the official generator")
    add("--config", type=Path, help="YAML of the architecture")
    add("--models", type=Path, nargs="+", required=True, metavar="MODEL.onnx", help="ours")
    add("--points-per-side", type=int, default=32, metavar="N")
    add("--points-per-batch", type=int, default=64, metavar="N")
    for name in NUMBERS:
        add(f"--{name.replace('_', '-')}", type=float, metavar="X")
    add("--backend", default="ort")
    add("--threads", type=int, default=1, help="of every contender (default 1)")
    add("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
