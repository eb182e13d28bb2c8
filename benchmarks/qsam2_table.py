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

    python -m benchmarks.qsam2_table --davis DAVIS -o table/ --bits w2a2 --seeds 0 1 2
    python -m benchmarks.qsam2_table --davis DAVIS -o table/ --bits w2a2 --methods lsc \
        --vrc noise --variants fixed-alpha per-tensor no-teacher --rates 1
    python -m benchmarks.qsam2_table -o table/ --table --plot table.png
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks._report import quiet_official_predictor

if __name__ == "__main__":
    quiet_official_predictor()


from benchmarks import _demo_data as data
from benchmarks._cells import keep, read_cells
from benchmarks._workplace import (
    BITS,
    FLOAT,
    REGIMES,
    Workplace,
    add_workplace_options,
    prepare,
    workplace_settings,
)
from qsam2_deploy._files import file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.generated import GeneratedClips, GeneratedClipsConfig
from qsam2_deploy.errors import InputError
from qsam2_deploy.evaluation.rules import DAVIS
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.quant.grid import AFFINE, MIDRISE
from qsam2_deploy.quant.layer_plan import PER_TENSOR
from qsam2_deploy.quant.quantizer import quantizer_names
from qsam2_deploy.training.config import DistillWeights, LossWeights
from qsam2_deploy.training.recipe import Recipe, read_recipe
from qsam2_deploy.training.train import TrainJob, train_model

RECIPE = Path(__file__).with_suffix(".yaml")
NAMED = ("regime", "bits", "method", "vrc", "variant")
KEYS = ("validation", "generated", "J&F", "mIoU")
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


AS_IT_IS = "-"
VARIANTS = {
    AS_IT_IS: Variant(),
    "fixed-alpha": Variant(calibration={"options": (("learn_alpha", False),)}),
    "momentum-0.9": Variant(calibration={"options": (("momentum", 0.9),)}),
    "momentum-0.999": Variant(calibration={"options": (("momentum", 0.999),)}),
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
            job = TrainJob(
                recipe=self._recipe(cell),
                output=Path(folder) / "trained.pt",
                quantized=quantized,
                teacher=self.checkpoint(cell.regime),
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


Name = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Row:
    """A line of the table: one method at its best rate, over all seeds.

    Attributes:
        name: regime, bits, method, VRC and variant.
        rate: the chosen factor on the learning rates; 0 before training.
        scores: by name, one for each seed.
    """

    name: Name
    rate: float
    scores: Mapping[str, Sequence[float]]

    def shown(self, key: str) -> str:
        """Return the mean, with the standard deviation over seeds if there are several."""
        values = self.scores[key]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.1f}{spread}"


def rows(folder: Path) -> list[Row]:
    """Return the lines of the table of all cells in ``folder``.

    Raises:
        InputError: there are none, or one is damaged.
    """
    groups: dict[Name, dict[float, list[dict[str, Any]]]] = {}
    for content in read_cells(folder):
        regime, bits, method, vrc, variant = (str(content[key]) for key in NAMED)
        name = (regime, bits, method, vrc, variant)
        groups.setdefault(name, {}).setdefault(content["rate"], []).append(content)
    found = []
    for name, by_rate in groups.items():
        trained = {rate: cells for rate, cells in by_rate.items() if rate > 0}
        for kind in ({0.0: by_rate[0.0]} if 0.0 in by_rate else {}, trained):
            if kind:
                rate = max(kind, key=lambda rate: _first_validation(kind[rate]))
                found.append(Row(name, rate, _scores(kind[rate])))
    order = {bits: n for n, bits in enumerate((FLOAT, *BITS))}
    return sorted(found, key=lambda row: _order(row, order))


def _order(row: Row, order: Mapping[str, int]) -> tuple[Any, ...]:
    regime, bits, *others = row.name
    return (REGIMES.index(regime), order.get(bits, 99), row.rate > 0, *others)


def _first_validation(cells: Sequence[Mapping[str, Any]]) -> float:
    first = min(cells, key=lambda cell: int(cell["seed"]))
    return float(first["results"]["validation"])


def _scores(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {key: [float(cell["results"][key]) for cell in cells] for key in KEYS}


def table(folder: Path) -> str:
    """Return the table of all cells in ``folder`` as Markdown; see `rows`."""
    header = ["weights", "bits", "method", "VRC", "variant", "rate", "seeds"]
    header += ["DAVIS J&F", "generated J&F", "mIoU box"]
    lines = [header, ["---"] * len(header)]
    for row in rows(folder):
        rate = f"{row.rate:g}" if row.rate > 0 else "no training"
        numbers = [row.shown(key) for key in ("J&F", "generated", "mIoU")]
        seeds = str(len(row.scores["J&F"])) if row.rate > 0 else ""
        rate = "" if row.name[1] == FLOAT else rate
        lines.append([*row.name, rate, seeds, *numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(folder: Path, path: Path) -> None:
    """Draw J&F on the test videos after training, a panel for each regime and width."""
    from matplotlib.figure import Figure

    found = rows(folder)
    panels = sorted({row.name[:2] for row in found if row.rate > 0}, key=lambda n: n)
    if not panels:
        raise InputError(f"nothing was trained in {folder}; there is nothing to draw")
    most = max(sum(row.name[:2] == panel and row.rate > 0 for row in found) for panel in panels)
    figure = Figure(figsize=(6.4 * len(panels), 1.4 + 0.34 * most), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    floats = {row.name[0]: row.scores["J&F"][0] for row in found if row.name[1] == FLOAT}
    for axis, panel in zip(axes, panels, strict=True):
        shown = [row for row in found if row.name[:2] == panel and row.rate > 0]
        shown.sort(key=lambda row: statistics.fmean(row.scores["J&F"]))
        for place, row in enumerate(shown):
            values = row.scores["J&F"]
            axis.plot(values, [place] * len(values), "o", color="#a8c4e0", markersize=4)
            axis.plot(statistics.fmean(values), place, "D", color="#22577f", markersize=7)
        axis.set_yticks(range(len(shown)), [_label(row) for row in shown])
        axis.grid(axis="x", alpha=0.3)
        if panel[0] in floats:
            axis.axvline(floats[panel[0]], color="black", linestyle=":", label="float")
            axis.legend(frameon=False, loc="upper left")
        axis.set_title(f"{panel[1].upper()}, weights: {panel[0]}", fontsize=10)
        axis.set_xlabel("J&F on test videos, percent: mean and seeds")
    figure.savefig(path, dpi=120)


def _label(row: Row) -> str:
    _, _, method, vrc, variant = row.name
    label = method if vrc == "none" else f"{method} + VRC"
    return label if variant == AS_IT_IS else f"{label}, {variant}"


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("clips", "clip_frames", "clip_size", "scale")
    own = {name: getattr(args, name) for name in names}
    return {**workplace_settings(args), **own, "recipe_sha256": file_digest(args.recipe)}


@command("benchmarks.qsam2_table")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table."""
    args = _parser().parse_args(argv)
    if not args.table:
        prepare(args)
        settings = _settings(args)
        with tempfile.TemporaryDirectory() as folder:
            run(QatWorkplace(args, Path(folder)), settings)
    print(table(args.output))
    if args.plot:
        plot(args.output, args.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.qsam2_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    add("--plot", type=Path, metavar="FILE", help="draw the table, .png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
