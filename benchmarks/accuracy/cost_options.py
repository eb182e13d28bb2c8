"""What the options that make a frame cheaper cost in quality, and what they save.

Fewer memory frames, pooled memory tokens and smaller images, one by one and together: the time of a
tracked frame on one core, the overlap of the masks with those of the model without options, and J&F
on annotated videos. The demo checkpoint was not trained with pooled memory or smaller images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._loop import (
    CHECKPOINT,
    CLIP,
    clicks,
    clip_frames,
    endless,
    export,
    milliseconds,
    on_cores,
    spread,
)
from benchmarks._report import benchmark_parser, write_report
from benchmarks.accuracy._demo_data import TEST
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.data.sample import VideoSequence
from qsam2_deploy.evaluation.exported_model import ExportedModel
from qsam2_deploy.evaluation.metrics import region_similarity
from qsam2_deploy.evaluation.model import Masks
from qsam2_deploy.evaluation.results import SequenceResult
from qsam2_deploy.evaluation.rules import DAVIS
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.runtime import VideoSegmenter

Packed = dict[tuple[str, int], dict[int, np.ndarray]]
"""Masks by sequence and frame, then by object, eight pixels in a byte."""


@dataclass(frozen=True)
class Option:
    """One way to make a frame cheaper.

    Attributes:
        memory_frames: memories that are attended to; None for the model's own number.
        pooling: side of the windows of memory tokens.
        image_size: side of the model's input; None for the checkpoint's own.
    """

    memory_frames: int | None = None
    pooling: int = 1
    image_size: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        parts = []
        if self.memory_frames is not None:
            parts.append(f"{self.memory_frames} memory frames")
        if self.pooling > 1:
            parts.append(f"memory pooled {self.pooling}x{self.pooling}")
        if self.image_size is not None:
            parts.append(f"{self.image_size} pixels")
        return ", ".join(parts) or "no option"

    @property
    def export_options(self) -> tuple[str, ...]:
        """Arguments of ``qsam2-export``."""
        size = () if self.image_size is None else ("--image-size", str(self.image_size))
        return ("--pool-memory", str(self.pooling), *size)


class MaskKeeper:
    """An observer that keeps all masks."""

    def __init__(self) -> None:
        self.masks: Packed = {}

    def frame(self, sequence: VideoSequence, index: int, masks: Masks) -> None:
        """Keep the masks of one frame."""
        packed = {number: np.packbits(mask) for number, mask in masks.items()}
        self.masks[sequence.name, index] = packed

    def sequence(self, sequence: VideoSequence, result: SequenceResult) -> None:
        """Do nothing."""


def options(args: argparse.Namespace) -> list[Option]:
    """Return what is measured, the model without options first."""
    single = [Option(memory_frames=count) for count in args.memory_frames]
    single += [Option(pooling=2), *(Option(image_size=size) for size in args.sizes)]
    both = [Option(memory_frames=count, pooling=2) for count in args.memory_frames[:1]]
    return [Option(), *single, *both]


def measure(option: Option, model: Path, args: argparse.Namespace) -> tuple[dict[str, Any], Packed]:
    """Return the time of a frame and the scores of one option, and its masks."""
    times = _times(option, model, args)
    keeper = MaskKeeper()
    if args.davis is None:
        return spread(times), keeper.masks
    exported = ExportedModel(
        model, exclusive=DAVIS.exclusive, backend=args.backend, memory_frames=option.memory_frames
    )
    sequences = davis_sequences(args.davis, tuple(args.sequences))
    with exported:
        scores = evaluate(exported, sequences, DAVIS, observers=[keeper], show_progress=False)
    return {**spread(times), "j": scores.j, "f": scores.f, "j_and_f": scores.j_and_f}, keeper.masks


def _times(option: Option, model: Path, args: argparse.Namespace) -> list[float]:
    clip = clip_frames(args.video, args.frames)
    with (
        on_cores(1),
        VideoSegmenter(
            model, args.backend, threads=1, memory_frames=option.memory_frames
        ) as segmenter,
    ):
        skip = segmenter.spec.rules.num_maskmem
        frames = endless(clip, skip + args.repeat)
        return milliseconds(segmenter, frames, clicks(1, clip[0]), skip=skip, streamed=False)


def overlap(masks: Packed, reference: Packed) -> float:
    """Return the mean IoU of all masks with those of the same object in ``reference``, percent."""
    pairs = [
        (np.unpackbits(mask).astype(bool), np.unpackbits(found[number]).astype(bool))
        for key, found in reference.items()
        for number, mask in masks[key].items()
    ]
    return 100 * float(np.mean([region_similarity(a[None], b[None]) for a, b in pairs]))


@command("benchmarks.accuracy.cost_options")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = _parser().parse_args(argv)
    results: dict[str, Any] = {}
    reference: Packed = {}
    with tempfile.TemporaryDirectory() as folder:
        for option in options(args):
            model = Path(folder) / "model.onnx"
            export(args.checkpoint, model, *option.export_options)
            result, masks = measure(option, model, args)
            reference = reference or masks
            shown = f"{option.name}: {result['median_ms']:.1f} ms"
            if args.davis is not None:
                result["iou"] = overlap(masks, reference)
                shown += f", IoU {result['iou']:.1f}, J&F {result['j_and_f']:.1f}"
            results[option.name] = result
            print(shown, flush=True)
    settings = {"checkpoint": args.checkpoint.name, "sequences": list(args.sequences)}
    write_report("cost_options", {**settings, "options": results}, args.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.cost_options", __doc__)
    add = parser.add_argument
    add("--davis", type=Path, metavar="ROOT", help="DAVIS layout (default: nothing but times)")
    add("--sequences", nargs="+", default=list(TEST))
    add("--checkpoint", type=Path, default=CHECKPOINT, help="float or quantized")
    add("--video", type=Path, default=CLIP, help="for the times")
    add("--frames", type=int, default=40, help="of the video, shown to and fro")
    add("--repeat", type=int, default=40, help="frames that are timed")
    add("--backend", default="ort")
    add("--memory-frames", type=int, nargs="+", default=[4, 2, 1])
    add("--sizes", type=int, nargs="+", default=[192, 128])
    return parser


if __name__ == "__main__":
    sys.exit(main())
