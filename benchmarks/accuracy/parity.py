"""Compare our video predictor with the official one in every scenario of the parity tests.

Example::

    python -m benchmarks.accuracy.parity --checkpoint sam2.1_hiera_tiny.pt --video dog.mp4 \
        --json out.json
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._report import benchmark_parser, quiet_official_predictor, write_report

if __name__ == "__main__":
    quiet_official_predictor()

import torch

from benchmarks import _models
from qsam2_deploy._common.files import atomic_open
from qsam2_deploy.cli._main import command
from qsam2_deploy.errors import Qsam2Error
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qsam2_deploy.runtime import SAM2VideoPredictor, open_backend
from tests.parity.compare import compare
from tests.parity.scenarios import SCENARIOS, SHORT, Scenario
from tests.parity.variants import VARIANTS, varied


@dataclass(frozen=True)
class Row:
    """One scenario."""

    scenario: str
    frames: int
    logits: float
    iou: float
    equal: bool
    official_seconds: float
    our_seconds: float


class Pairs:
    """Predictors of both kinds for the variants of one checkpoint; one variant at a time."""

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, video: Path, backend: str, threads: int
    ) -> None:
        self._checkpoint, self._folder, self._video = checkpoint, folder, video
        self._backend, self._threads = backend, threads
        self._torch_store: dict[int, Any] = {}
        self._our_store: dict[int, Any] = {}

    def make(self, name: str) -> tuple[Any, SAM2VideoPredictor]:
        """Build, export and open a variant."""
        state = self._checkpoint.model.state_dict()
        config = copy.deepcopy(self._checkpoint.config)
        config, state = varied(config, state, VARIANTS[name], self._video)
        checkpoint, model = self._folder / "variant.pt", self._folder / "variant.onnx"
        save_checkpoint(checkpoint, state, config=config)
        onnx_from_checkpoint(checkpoint, model, show_progress=False)
        official = _models.official(config, state)
        _models.remember_features(official, self._torch_store)
        backend = open_backend(model, self._backend, self._threads)
        remembering = _models.RememberingBackend(backend, self._our_store)
        return official, SAM2VideoPredictor(remembering, show_progress=False)


def rows(
    pairs: Pairs, chosen: Sequence[Scenario], short: Path, long: Path, size: tuple[int, int]
) -> Iterator[Row]:
    """Run the scenarios, ordered by variant, so that only one pair is in memory."""
    for variant in dict.fromkeys(item.variant for item in chosen):
        official, ours = pairs.make(variant)
        with ours:
            for item in chosen:
                if item.variant == variant:
                    yield run_one(item, official, ours, long if item.long else short, size)


def run_one(
    item: Scenario, official: Any, ours: SAM2VideoPredictor, video: Path, size: tuple[int, int]
) -> Row:
    """Run one scenario on both sides."""
    started = time.perf_counter()
    expected = item.run(official, video, *size)
    between = time.perf_counter()
    difference = compare(expected, item.run(ours, video, *size))
    ended = time.perf_counter()
    return Row(
        item.name,
        difference.frames,
        difference.logits,
        difference.iou,
        difference.equal,
        round(between - started, 2),
        round(ended - between, 2),
    )


def table(results: Sequence[Row]) -> str:
    """Format the rows as a Markdown table."""
    lines = [
        "| scenario | results | worst logit difference / range | worst mask IoU |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.scenario} | {row.frames} | {row.logits:.1e} | {row.iou:.5f} |" for row in results
    ]
    return "\n".join(lines) + "\n"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = benchmark_parser("benchmarks.accuracy.parity", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, help="default: a tiny one with random weights")
    add("--config", type=Path, help="YAML of the architecture")
    add("--image-size", type=int, help="replaces the configured image size")
    add("--video", type=Path, help="default: a generated clip")
    add("--frames", type=int, default=20, help="frames of the long scenarios")
    add("--short-frames", type=int, default=SHORT, help="frames of all other scenarios")
    add("--scenario", action="append", metavar="NAME", help="only this one; repeatable")
    add("--backend", default="ort")
    add("--threads", type=int, default=1)
    add("--markdown", type=Path, metavar="OUT", help="write the table here")
    args = parser.parse_args(argv)
    if not SHORT <= args.short_frames <= args.frames:
        parser.error(
            f"expected {SHORT} <= --short-frames <= --frames, but got {args.short_frames} and "
            f"{args.frames}"
        )
    return args


def choose(names: Sequence[str] | None, available: Sequence[str]) -> list[Scenario]:
    """Return the scenarios that are wanted and that the checkpoint can play."""
    usable = [item for item in SCENARIOS if item.variant in available]
    unknown = set(names or []) - {item.name for item in usable}
    if unknown:
        raise Qsam2Error(
            f"no such scenario: {'; '.join(sorted(unknown))}; there are: "
            + "; ".join(item.name for item in usable)
        )
    return [item for item in usable if not names or item.name in names]


def measure(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Run all that the command line asks for, and print as it goes."""
    if args.checkpoint is None:
        args.checkpoint, args.config = _models.random_checkpoint(folder)
    checkpoint = load_checkpoint(args.checkpoint, config=args.config, image_size=args.image_size)
    if checkpoint.quantization is not None:
        raise Qsam2Error("the scenarios compare float models, but the checkpoint is quantized")
    long = folder / "long"
    size = _models.write_frames(args.video, long, args.frames)
    short = _models.link_first(long, folder / "short", args.short_frames)
    # A SAM 2.0 architecture cannot be made from SAM 2.1 weights.
    available = [name for name, variant in VARIANTS.items() if variant.version == "2.1"]
    chosen = choose(args.scenario, available)
    pairs = Pairs(checkpoint, folder, short, args.backend, args.threads)
    results = []
    for row in rows(pairs, chosen, short, long, size):
        results.append(row)
        verdict = "equal" if row.equal else "DIFFERENT"
        print(
            f"{row.scenario:30} {row.frames:4} {row.logits:9.1e} {row.iou:.5f} {verdict:9} "
            f"{row.official_seconds:7.1f} s {row.our_seconds:7.1f} s",
            flush=True,
        )
    return results


@command("benchmarks.accuracy.parity")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if any scenario differs."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(args, Path(folder))
    print("\n" + table(results))
    if args.markdown:
        with atomic_open(args.markdown) as stream:
            stream.write(table(results).encode())
    settings = {
        "checkpoint": args.checkpoint.name,
        "frames": args.frames,
        "short_frames": args.short_frames,
        "threads": args.threads,
        "video": args.video.name if args.video else "generated",
    }
    write_report("parity", {"settings": settings, "rows": [asdict(r) for r in results]}, args.json)
    return 0 if all(row.equal for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
