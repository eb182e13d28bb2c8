r"""Everything that the model card of ``assets/demo.pt`` says in numbers.

    python benchmarks/accuracy/demo_model.py --model assets/demo.pt --davis DAVIS \
        --log assets/demo.log.jsonl -o benchmarks/results/demo_model.json --card assets/README.md

The model runs as a checkpoint in the official predictor, exported in our runtime, and calibrated
to W8A8 on frames of the training videos in our runtime. Each is scored on generated clips that no
recipe trains on, on the DAVIS sequences of the test split, and on frames of these as images.

Every part is written when it is done. Run again, the command goes on where it was interrupted;
parts of the same model, settings, machine and versions are kept. The exit status is 1 if J&F
differs by more than the limits below.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks._report import benchmark_parser, quiet_official_predictor, usable_cores

if __name__ == "__main__":
    quiet_official_predictor()

import torch

from benchmarks.accuracy import _demo_data as data
from benchmarks.accuracy._kept_parts import KeptParts
from benchmarks.accuracy._model_card import check_card, write_card
from benchmarks.accuracy._training_log import training_summary
from qsam2_deploy.calibration import CalibrationConfig
from qsam2_deploy.calibration.calibrate import calibrate_checkpoint
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.datasets.davis import DavisSequence, davis_sequences
from qsam2_deploy.data.sample import VideoSequence
from qsam2_deploy.evaluation.exported_model import ExportedModel
from qsam2_deploy.evaluation.model import Model
from qsam2_deploy.evaluation.prompts import PromptKind
from qsam2_deploy.evaluation.results import Evaluation
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES, Rule
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint, load_checkpoint
from qsam2_deploy.quant.checkpoints.official_predictor import OfficialModel

ROOT = Path(__file__).parents[2]

EXPORT_LIMIT = 0.1
"""Largest difference of J&F, percent, between the exported float model and the checkpoint."""

QUANTIZED_LIMIT = 1.0
"""Largest loss of J&F, percent, by W8A8."""

GENERATED, EASY, VIDEOS, STILLS = "generated", "easy", "davis", "images"
TORCH, FLOAT, W8A8, COPY = "torch", "onnx float", "onnx w8a8", "first mask"
BITS = "w8a8"

PLAN: tuple[tuple[str, str, PromptKind], ...] = (
    *(
        (dataset, engine, "mask")
        for dataset in (GENERATED, EASY, VIDEOS)
        for engine in (COPY, TORCH)
    ),
    (GENERATED, TORCH, "click"),
    (EASY, TORCH, "click"),
    (VIDEOS, TORCH, "click"),
    (VIDEOS, TORCH, "box"),
    *((dataset, engine, "mask") for dataset in (GENERATED, VIDEOS) for engine in (FLOAT, W8A8)),
    *((STILLS, engine, "click") for engine in (TORCH, FLOAT, W8A8)),
    *((STILLS, engine, "box") for engine in (TORCH, FLOAT, W8A8)),
)
"""Dataset, engine and prompt of every part that is scored."""


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        clips: generated clips.
        clip_frames: frames of each.
        clip_size: their side, pixels.
        train: DAVIS sequences to calibrate on.
        calibration_frames: of each of them.
        test: DAVIS sequences to score.
        frames: most frames of each; None for all.
        every: distance of the frames that are scored as images.
    """

    clips: int = 30
    clip_frames: int = 24
    clip_size: int = 256
    train: tuple[str, ...] = data.TRAIN
    calibration_frames: int = 5
    test: tuple[str, ...] = data.TEST
    frames: int | None = None
    every: int = 5


QUICK = Extent(1, 4, 96, data.TRAIN[:1], 2, data.TEST[:1], 4, 2)


class Datasets:
    """The clips, sequences and images, opened or made when first needed."""

    def __init__(self, davis: Path, extent: Extent) -> None:
        """Open the DAVIS sequences.

        Raises:
            VideoError: a sequence is missing or damaged.
        """
        self.extent = extent
        self.train = davis_sequences(davis, extent.train)
        self._test: list[DavisSequence] = davis_sequences(davis, extent.test)

    def __getitem__(self, name: str) -> tuple[Rule, Sequence[VideoSequence]]:
        """Return the rule of a dataset and its sequences."""
        if name == GENERATED:
            return DAVIS, self._generated
        if name == EASY:
            return DAVIS, self._easy
        return (DAVIS, self._videos) if name == VIDEOS else (IMAGES, self._stills)

    def settings(self, name: str) -> dict[str, Any]:
        """Return what the scores on a dataset depend on."""
        extent = asdict(self.extent)
        generated = name in (GENERATED, EASY)
        chosen = ["clips", "clip_frames", "clip_size"] if generated else ["test", "frames"]
        found = {key: extent[key] for key in [*chosen, *(["every"] if name == STILLS else [])]}
        return found | ({"seed": data.HELD_OUT_SEED} if generated else {})

    @cached_property
    def _generated(self) -> list[data.ClipSequence]:
        extent = self.extent
        return data.held_out_clips(extent.clips, extent.clip_frames, extent.clip_size)

    @cached_property
    def _easy(self) -> list[data.ClipSequence]:
        extent = self.extent
        return data.held_out_clips(extent.clips, extent.clip_frames, extent.clip_size, easy=True)

    @cached_property
    def _videos(self) -> list[DavisSequence]:
        return [data.first_frames(sequence, self.extent.frames) for sequence in self._test]

    @cached_property
    def _stills(self) -> list[data.StillFrame]:
        return data.still_frames(self._videos, self.extent.every)


class Engines:
    """The model in its three forms; the files are made when first needed."""

    def __init__(self, args: argparse.Namespace, datasets: Datasets, folder: Path) -> None:
        self._model, self._config, self._threads = args.model, args.config, args.threads
        self._datasets, self._folder = datasets, folder

    def open(self, engine: str, rule: Rule) -> AbstractContextManager[Model]:
        """Return an engine as a ``Model``."""
        if engine == COPY:
            return nullcontext(data.FirstMask())
        if engine == TORCH:
            return OfficialModel(
                self._model, exclusive=rule.exclusive, config=self._config, threads=self._threads
            )
        path = self.float_file if engine == FLOAT else self.quantized_file
        return ExportedModel(
            path, exclusive=rule.exclusive, still=rule.still, threads=self._threads
        )

    def settings(self, engine: str) -> dict[str, Any]:
        """Return what the engine's results depend on, beside the model."""
        if engine != W8A8:
            return {}
        extent = self._datasets.extent
        return {"bits": BITS, "train": extent.train, "of_each": extent.calibration_frames}

    @cached_property
    def float_file(self) -> Path:
        """The exported float model."""
        path = self._folder / "float.onnx"
        onnx_from_checkpoint(self._model, path, config=self._config)
        return path

    @cached_property
    def quantized_file(self) -> Path:
        """The exported quantized model."""
        frames, checkpoint = self._folder / "calibration", self._folder / "quantized.pt"
        each = self._datasets.extent.calibration_frames
        count = data.link_evenly(self._datasets.train, each, frames)
        calibration = CalibrationConfig(bits=BITS, limit=count)
        calibrate_checkpoint(
            self._model, frames, checkpoint, config=calibration, model_config=self._config
        )
        path = self._folder / "quantized.onnx"
        onnx_from_checkpoint(checkpoint, path)
        return path

    def file_sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes."""
        files = {"checkpoint": self._model, FLOAT: self.float_file, W8A8: self.quantized_file}
        return {name: path.stat().st_size for name, path in files.items()}


@command("benchmarks.accuracy.demo_model")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a limit is exceeded."""
    args = _parser().parse_args(argv)
    if args.card:
        check_card(args.card)
    torch.set_num_threads(args.threads)
    datasets = Datasets(args.davis, QUICK if args.quick else Extent())
    training = training_summary(args.log, args.recipe) if args.log else None
    checkpoint = load_checkpoint(args.model, config=args.config)
    settings = {"model_sha256": checkpoint.sha256, "threads": args.threads}
    kept = KeptParts("demo_model", args.output, settings)
    with tempfile.TemporaryDirectory() as folder:
        engines = Engines(args, datasets, Path(folder))
        scores = {_name(*part): _score(kept, datasets, engines, *part) for part in PLAN}
        sizes = kept.part("file sizes", engines.settings(W8A8), engines.file_sizes)
    differences = _differences(scores)
    report = kept.finish(
        {
            "model": _facts(checkpoint),
            "bytes": sizes,
            "limits": {FLOAT: EXPORT_LIMIT, W8A8: QUANTIZED_LIMIT},
            "differences": differences,
            "training": training,
        }
    )
    print(f"written: {args.output}")
    if args.card:
        write_card(args.card, report)
        print(f"written: {args.card}")
    return 0 if all(row["within"] is not False for row in differences) else 1


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.demo_model", __doc__, json=False)
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "assets" / "demo.pt", help="a float checkpoint")
    add("--config", type=Path, help="YAML of its architecture, if it carries none")
    add("--davis", type=Path, required=True, metavar="ROOT", help="DAVIS 2016, 480p")
    add("--log", type=Path, metavar="FILE", help="log of the training, .log.jsonl")
    add("--recipe", type=Path, default=ROOT / "recipes" / "demo.yaml", help="of the training")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="all numbers, .json")
    add("--card", type=Path, metavar="FILE", help="model card whose tables are filled in, .md")
    add("--threads", type=int, default=usable_cores(), help="for all engines (default: all cores)")
    add("--quick", action="store_true", help="one clip, one sequence, few frames: to try it out")
    return parser


def _name(dataset: str, engine: str, prompt: str) -> str:
    return f"{dataset}, {engine}, {prompt}"


def _score(
    kept: KeptParts,
    datasets: Datasets,
    engines: Engines,
    dataset: str,
    engine: str,
    prompt: PromptKind,
) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        rule, sequences = datasets[dataset]
        with engines.open(engine, rule) as model:
            return _compact(evaluate(model, sequences, rule, prompt=prompt))

    settings = {
        "dataset": dataset, "engine": engine, "prompt": prompt,
        **datasets.settings(dataset), **engines.settings(engine),
    }  # fmt: skip
    scores = kept.part(_name(dataset, engine, prompt), settings, measure)
    print(f"{_name(dataset, engine, prompt):<36} J&F {scores['J&F']:6.2f}  J {scores['J']:6.2f}")
    sys.stdout.flush()
    return scores


def _compact(evaluation: Evaluation) -> dict[str, Any]:
    """Return the scores in percent, without the single objects."""
    rows = {
        item.name: {
            "J": round(item.j, 4), "F": round(item.f, 4), "J&F": round(item.j_and_f, 4),
            "frames": item.frames,
        }
        for item in evaluation.sequences
    }  # fmt: skip
    speed = evaluation.fps
    return {
        "J": round(evaluation.j, 4),
        "F": round(evaluation.f, 4),
        "J&F": round(evaluation.j_and_f, 4),
        "objects": len(evaluation.objects),
        "frames": sum(item.frames for item in evaluation.sequences),
        "frames_per_second": None if speed is None else round(speed, 3),
        "sequences": rows,
    }


def _differences(scores: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare both exported models with the checkpoint."""
    return [
        _difference(scores, dataset, engine, prompt)
        for dataset, engine, prompt in PLAN
        if engine in (FLOAT, W8A8)
    ]


def _difference(
    scores: dict[str, dict[str, Any]], dataset: str, engine: str, prompt: str
) -> dict[str, Any]:
    score = "J" if dataset == STILLS else "J&F"
    reference = scores[_name(dataset, TORCH, prompt)][score]
    difference = round(scores[_name(dataset, engine, prompt)][score] - reference, 4)
    excess = abs(difference) - EXPORT_LIMIT if engine == FLOAT else -difference - QUANTIZED_LIMIT
    # Images have no limit: of three answers to a click, another one may become the favourite.
    within = None if dataset == STILLS else excess <= 0
    return {
        "dataset": dataset, "engine": engine, "prompt": prompt, "score": score,
        "difference": difference, "within": within,
    }  # fmt: skip


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    model: Any = checkpoint.model
    return {
        "file": checkpoint.path.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "image_size": model.image_size,
        "d_model": model.hidden_dim,
        "memory_dim": model.mem_dim,
    }


if __name__ == "__main__":
    sys.exit(main())
