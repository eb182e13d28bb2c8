r"""Post-training methods side by side: method x bits x {VRC, none} x {plain, outliers}.

Every cell calibrates the checkpoint on frames of the training videos and measures, in PyTorch, the
error of the encoder's features, J&F on the first frames of test videos, and mIoU on single frames.
``ptq4sam`` quantizes the encoder's attention products, too; the others leave them in floats.
Each cell is one JSON file; run again, the command goes on where it was interrupted. The table is
made of the files alone.

Example::

    python -m benchmarks.accuracy.ptq --davis DAVIS -o ptq/ --bits w4a8 w4a4 w2a4 --frames 20
    python -m benchmarks.accuracy.ptq -o ptq/ --table
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._report import benchmark_parser, quiet_official_predictor

if __name__ == "__main__":
    quiet_official_predictor()

import torch

from benchmarks.accuracy._cells import keep, read_cells
from benchmarks.accuracy._workplace import (
    BITS,
    FLOAT,
    REGIMES,
    Workplace,
    add_workplace_options,
    prepare,
    relative_error,
    workplace_settings,
)
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.calibration.ptq import ptq_names
from qsam2_deploy.calibration.ptq.attention import quantized_attention
from qsam2_deploy.calibration.ptq.options import parse_ptq_options
from qsam2_deploy.cli._main import command
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

KEYS = ("feature_error", "J&F", "mIoU")
PTQ4SAM = "ptq4sam"


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    method: str
    bits: str
    vrc: str
    regime: str

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        return f"{self.regime}_{self.bits}_{self.method}_{self.vrc}.json"


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of a run; for each regime the float model comes first."""
    for regime in args.regimes:
        yield Cell(FLOAT, FLOAT, "none", regime)
        for bits, vrc, method in itertools.product(args.bits, args.vrc, args.methods):
            yield Cell(method, bits, vrc, regime)


class PtqWorkplace(Workplace):
    """Calibrates and scores."""

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Calibrate and score one cell."""
        source = self.checkpoint(cell.regime)
        path, notes = source, {}
        if cell.method != FLOAT:
            path = self.folder / "quantized.pt"
            report = calibrate_checkpoint(
                source, self.frames, path, config=self._config(cell), model_config=self.args.config
            )
            notes = report.ptq_notes
        with self.open(path) as model, self._attention(cell, model.module):
            scores = self.scores_of(model)
        return {**self._feature_errors(cell, source, path), **scores, "notes": notes}

    def _config(self, cell: Cell) -> CalibrationConfig:
        options = parse_ptq_options(self.args.ptq_option)
        return CalibrationConfig(
            bits=cell.bits, vrc=cell.vrc, ptq=cell.method, ptq_options=options, limit=self.images
        )

    @torch.no_grad()
    def _feature_errors(self, cell: Cell, source: Path, path: Path) -> dict[str, float]:
        """Return the relative error of the features on frames of the test sequences."""
        if cell.method == FLOAT:
            return {"feature_error": 0.0}
        config = self.args.config
        plain = load_checkpoint(source, config=config).model
        model: Any = load_checkpoint(path, config=config).model
        encoder = model.image_encoder
        probes = self.probes(plain.image_size)
        expected = [plain.image_encoder(x)["vision_features"] for x in probes]
        with self._attention(cell, model):
            found = {"feature_error": relative_error(encoder, probes, expected)}
        if cell.method == PTQ4SAM:
            found["feature_error_without_attention"] = relative_error(encoder, probes, expected)
        return found

    @contextmanager
    def _attention(self, cell: Cell, model: Any) -> Iterator[None]:
        """Quantize the attention products, too, as PTQ4SAM does, while the context is open."""
        if cell.method != PTQ4SAM:
            yield
            return
        bits = CalibrationConfig(bits=cell.bits).activation_bits
        images = calibration_images(self.frames, model.image_size, self.args.calibration_frames)
        with quantized_attention(model.image_encoder, images, bits):
            yield


def table(folder: Path) -> str:
    """Return the table of all cells in ``folder``.

    Raises:
        InputError: there are none, or one is damaged.
    """
    rows = read_cells(folder)
    order = {bits: n for n, bits in enumerate((FLOAT, *BITS))}
    rows.sort(key=lambda r: (r["regime"] != REGIMES[0], order.get(r["bits"], 99), r["vrc"]))
    lines = ["| weights | bits | VRC | method | feature error | J&F | mIoU |", "|---" * 7 + "|"]
    for row in rows:
        numbers = [row["results"][key] for key in KEYS]
        shown = [f"{numbers[0]:.4f}", *(f"{number:.2f}" for number in numbers[1:])]
        names = [row[key] for key in ("regime", "bits", "vrc", "method")]
        lines.append(f"| {' | '.join([*names, *shown])} |")
    return "\n".join(lines)


def run_cell(workplace: PtqWorkplace, cell: Cell, settings: Mapping[str, Any]) -> None:
    """Measure a cell, unless its file holds results of the same settings."""
    keep(workplace.args.output, cell, settings, lambda: workplace.measure(cell), KEYS)


@command("benchmarks.accuracy.ptq")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table."""
    args = _parser().parse_args(argv)
    if not args.table:
        prepare(args)
        settings = {**workplace_settings(args), "ptq_option": args.ptq_option}
        with tempfile.TemporaryDirectory() as folder:
            workplace = PtqWorkplace(args, Path(folder))
            for cell in cells(args):
                run_cell(workplace, cell, settings)
    print(table(args.output))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.ptq", __doc__, json=False)
    add_workplace_options(parser)
    add = parser.add_argument
    add("--methods", nargs="+", default=list(ptq_names()), choices=ptq_names(), metavar="NAME")
    add("--ptq-option", action="append", default=[], metavar="NAME=X", help="as qsam2-calibrate")
    return parser


if __name__ == "__main__":
    sys.exit(main())
