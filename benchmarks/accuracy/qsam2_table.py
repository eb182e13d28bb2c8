r"""Quantization-aware training, method by method, under the same budget.

Every cell calibrates the checkpoint, trains the quantized model for the same steps on the same
clips, and scores it in PyTorch: J&F of the first mask on test videos and on held-out generated
clips, and mIoU of boxes on single frames. ``outliers`` is the same function as ``plain``, with the
weight outliers of a real checkpoint. A variant changes one thing of a method, for the ablation.

The learning rate of each method and width is chosen from the same grid (``--rates``), with the
first seed, by clips that are generated for validation; nothing is chosen by the test videos. A rate
of 0 is the calibrated model without training. Each cell is one JSON file; run again, the command
goes on where it was interrupted. Table and plot are made of the files alone.

Example::

    python -m benchmarks.accuracy.qsam2_table --davis DAVIS -o table/ --bits w2a2 --seeds 0 1 2
    python -m benchmarks.accuracy.qsam2_table --davis DAVIS -o table/ --bits w2a2 --methods lsc \
        --vrc noise --variants fixed-alpha per-tensor no-teacher --rates 1
    python -m benchmarks.accuracy.qsam2_table -o table/ --table --plot table.png
    python -m benchmarks.accuracy.qsam2_table -o table/ --table --rate 1
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks._report import benchmark_parser, quiet_official_predictor

if __name__ == "__main__":
    quiet_official_predictor()


from benchmarks.accuracy import _demo_data as data
from benchmarks.accuracy._cells import keep
from benchmarks.accuracy._qat_results import AS_IT_IS, KEYS, plot, table
from benchmarks.accuracy._workplace import (
    FLOAT,
    Workplace,
    add_workplace_options,
    prepare,
    workplace_settings,
)
from qsam2_deploy._common.files import file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.generated import GeneratedClips, GeneratedClipsConfig
from qsam2_deploy.evaluation.rules import DAVIS
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.quant.layers.layer_plan import PER_TENSOR
from qsam2_deploy.quant.quantizers.grid import AFFINE, MIDRISE
from qsam2_deploy.quant.quantizers.quantizer import quantizer_names
from qsam2_deploy.training.config import DistillWeights, LossWeights
from qsam2_deploy.training.recipe import Recipe, read_recipe
from qsam2_deploy.training.train import TrainJob, train_model

RECIPE = Path(__file__).with_suffix(".yaml")
NO_LABELS = LossWeights(focal=0.0, dice=0.0, iou=0.0, object_score=0.0)


@dataclass(frozen=True)
class Variant:
    """What one line of the ablation has otherwise.

    Attributes:
        calibration: settings of `CalibrationConfig`.
        quantizers: settings of `QuantizerTraining`.
        stage: settings of every `Stage`.
    """

    calibration: Mapping[str, Any] = field(default_factory=dict)
    quantizers: Mapping[str, Any] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    AS_IT_IS: Variant(),
    "fixed-alpha": Variant(calibration={"options": (("learn_alpha", False),)}),
    "momentum-0.9": Variant(calibration={"options": (("momentum", 0.9),)}),
    "momentum-0.999": Variant(calibration={"options": (("momentum", 0.999),)}),
    "from-mse": Variant(calibration={"options": (("start_from", "mse"),)}),
    "from-extremes": Variant(calibration={"options": (("start_from", "extremes"),)}),
    "per-tensor": Variant(calibration={"granularity": PER_TENSOR}),
    "midrise-weights": Variant(calibration={"weight_grid": MIDRISE}),
    "affine-inputs": Variant(calibration={"activation_grid": AFFINE}),
    "midrise-and-affine": Variant(calibration={"weight_grid": MIDRISE, "activation_grid": AFFINE}),
    "no-teacher": Variant(stage={"distill": DistillWeights()}),
    "teacher-alone": Variant(stage={"losses": NO_LABELS}),
    "lowered-widths": Variant(quantizers={"lower": ((0.2, 8), (0.4, 4))}),
}
"""By the name that ``--variants`` takes."""

VALIDATION_SEED = 27_182_818
"""Of the clips that choose the learning rate; neither trained on nor reported as a result."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        regime: ``plain`` or ``outliers``.
        bits: such as ``w2a2``, or ``float``.
        method: of the quantizers.
        vrc: how the weights are calibrated.
        rate: factor on the recipe's learning rates; 0 trains not.
        seed: of the training.
        variant: one of ``VARIANTS``.
    """

    regime: str
    bits: str
    method: str = FLOAT
    vrc: str = "none"
    rate: float = 0.0
    seed: int = 0
    variant: str = AS_IT_IS

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        what = f"{self.regime}_{self.bits}_{self.method}_{self.vrc}"
        if self.variant != AS_IT_IS:
            what += f"_{self.variant}"
        return f"{what}_rate{self.rate:g}_seed{self.seed}.json"


class QatWorkplace(Workplace):
    """Calibrates, trains and scores."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        """Read the recipe, and open the data."""
        super().__init__(args, folder)
        self.recipe = read_recipe(args.recipe)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Calibrate, train and score one cell."""
        path = self.checkpoint(cell.regime)
        if cell.bits != FLOAT:
            path = self._calibrated(cell, path)
        if cell.rate > 0:
            path = self._trained(cell, path)
        return {**self._generated_scores(path), **self.scores(path)}

    def _calibrated(self, cell: Cell, source: Path) -> Path:
        path = self.folder / "calibrated.pt"
        config = CalibrationConfig(
            bits=cell.bits,
            vrc=cell.vrc,
            method=cell.method,
            limit=self.images,
            **VARIANTS[cell.variant].calibration,
        )
        calibrate_checkpoint(
            source, self.frames, path, config=config, model_config=self.args.config
        )
        return path

    def _trained(self, cell: Cell, quantized: Path) -> Path:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            recipe = self._recipe(cell)
            job = TrainJob(
                recipe=recipe,
                output=Path(folder) / "trained.pt",
                quantized=quantized,
                teacher=self.checkpoint(cell.regime) if recipe.train.distils else None,
                sequences=self.train,
                score=False,
                quiet=True,
            )
            written = train_model(job)
            assert written is not None
            return written.replace(self.folder / "trained.pt")

    def _recipe(self, cell: Cell) -> Recipe:
        train, variant = self.recipe.train.scaled(self.args.scale), VARIANTS[cell.variant]
        stages = tuple(
            replace(stage, learning_rate=(first * cell.rate, last * cell.rate), **variant.stage)
            for stage in train.stages
            for first, last in (stage.learning_rate,)
        )
        quantizers = replace(train.quantizers, **variant.quantizers)
        train = replace(train, stages=stages, quantizers=quantizers, seed=cell.seed)
        return replace(self.recipe, train=train)

    def _generated_scores(self, path: Path) -> dict[str, float]:
        with self.open(path) as model:
            return {
                name: evaluate(model, self._clips(seed), DAVIS, prompt="mask").j_and_f
                for name, seed in (
                    ("validation", VALIDATION_SEED),
                    ("generated", data.HELD_OUT_SEED),
                )
            }

    def _clips(self, seed: int) -> list[data.ClipSequence]:
        source = GeneratedClips(GeneratedClipsConfig(seed=seed))
        size, frames = self.args.clip_size, self.args.clip_frames
        return [
            data.ClipSequence(source.clip(n, frames=frames, size=size))
            for n in range(self.args.clips)
        ]


def run(workplace: QatWorkplace, settings: Mapping[str, Any]) -> None:
    """Measure all cells that are missing."""
    args = workplace.args

    def measured(cell: Cell) -> dict[str, Any]:
        return keep(args.output, cell, settings, lambda: workplace.measure(cell), KEYS)

    for regime in args.regimes:
        measured(Cell(regime, FLOAT))
    for group in _groups(args):
        measured(group)
        first = [replace(group, rate=rate, seed=args.seeds[0]) for rate in args.rates]
        best = max(first, key=lambda cell: measured(cell)["validation"]) if first else group
        for seed in args.seeds[1:] if first else ():
            measured(replace(best, seed=seed))


def _groups(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield the untrained cell of each regime, width, method, VRC and variant."""
    for regime, bits, method, vrc, variant in itertools.product(
        args.regimes, args.bits, args.methods, args.vrc, args.variants
    ):
        yield Cell(regime, bits, method, vrc, variant=variant)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("clips", "clip_frames", "clip_size", "scale")
    own = {name: getattr(args, name) for name in names}
    return {**workplace_settings(args), **own, "recipe_sha256": file_digest(args.recipe)}


@command("benchmarks.accuracy.qsam2_table")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table."""
    args = _parser().parse_args(argv)
    if not args.table:
        prepare(args)
        settings = _settings(args)
        with tempfile.TemporaryDirectory() as folder:
            run(QatWorkplace(args, Path(folder)), settings)
    print(table(args.output, args.rate))
    if args.plot:
        plot(args.output, args.plot, args.rate)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.qsam2_table", __doc__, json=False)
    add_workplace_options(parser)
    add = parser.add_argument
    methods = quantizer_names()
    add("--methods", nargs="+", default=list(methods), choices=methods, metavar="NAME")
    variants = f"changes to the methods, of: {', '.join(VARIANTS)} (default {AS_IT_IS}: none)"
    add("--variants", nargs="+", default=[AS_IT_IS], choices=VARIANTS, metavar="V", help=variants)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    add("--rates", nargs="*", type=float, default=[0.3, 1.0, 3.0], help="default: 0.3 1 3")
    add("--recipe", type=Path, default=RECIPE, help="of the training")
    add("--scale", type=float, default=1.0, metavar="X", help="X times the recipe's steps")
    add("--clips", type=int, default=16, help="generated clips of each kind (default 16)")
    add("--clip-frames", type=int, default=12, help="of each of them (default 12)")
    add("--clip-size", type=int, default=256, help="their side, pixels (default 256)")
    add("--rate", type=float, metavar="X", help="show X instead of each method's best rate")
    add("--plot", type=Path, metavar="FILE", help="draw the table, .png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
