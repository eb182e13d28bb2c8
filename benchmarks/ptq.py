r"""Post-training methods side by side: method x bits x {VRC, none} x {plain, outliers}.

Every cell calibrates the checkpoint on frames of the training videos and measures, in PyTorch, the
error of the encoder's features, J&F on the first frames of test videos, and mIoU on single frames.
Each cell is one JSON file; run again, the command goes on where it was interrupted. The table is
made of the files alone.

Example::

    python -m benchmarks.ptq --davis DAVIS -o ptq/ --bits w4a8 w4a4 w2a4 --frames 20
    python -m benchmarks.ptq -o ptq/ --table
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._report import environment, quiet_official_predictor

if __name__ == "__main__":
    quiet_official_predictor()

import torch

from benchmarks import _demo_data as data
from benchmarks._outliers import add_outliers, real_peaks
from benchmarks.outliers import STATISTICS
from qsam2_deploy._files import atomic_open, file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.calibration.data import CalibrationImages, calibration_images
from qsam2_deploy.calibration.ptq import ptq_names
from qsam2_deploy.calibration.ptq.attention import quantized_attention
from qsam2_deploy.calibration.ptq.options import parse_ptq_options
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.davis import DavisSequence, davis_sequences
from qsam2_deploy.errors import InputError
from qsam2_deploy.evaluation.results import Evaluation
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.quant.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.official_predictor import OfficialModel

ROOT = Path(__file__).parents[1]
BITS = ("w8a8", "w4a8", "w4a4", "w3a3", "w2a4", "w2a2")
VRC = ("none", "noise")
REGIMES = ("plain", "outliers")
FLOAT = "float"
KEYS = ("feature_error", "J&F", "mIoU")


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


class Workplace:
    """The checkpoints of both regimes, and the data."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        """Open the data; sequences that are missing or damaged raise VideoError."""
        self.args, self.folder = args, folder
        self._test = [
            data.first_frames(sequence, args.frames)
            for sequence in davis_sequences(args.davis, tuple(args.test))
        ]
        frames = folder / "calibration"
        train: list[DavisSequence] = davis_sequences(args.davis, tuple(args.train))
        self.images = data.link_evenly(train, args.calibration_frames, frames)
        self.frames = frames
        self._checkpoints: dict[str, Path] = {}

    def checkpoint(self, regime: str) -> Path:
        """Return the float checkpoint of a regime."""
        if regime == REGIMES[0]:
            return Path(self.args.checkpoint)
        path = self.folder / "outliers.pt"
        if not path.exists():
            loaded = load_checkpoint(self.args.checkpoint, config=self.args.config)
            add_outliers(loaded.model, real_peaks(self.args.statistics))
            save_checkpoint(path, loaded.model.state_dict(), config=loaded.config)
        return path

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
        found = {**self._feature_errors(cell, source, path), **self._scores(path)}
        return {**found, "notes": notes}

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
        loaded = load_checkpoint(path, config=config)
        encoder: Any = loaded.model.image_encoder
        probes = self._probes(plain.image_size)
        expected = [plain.image_encoder(x)["vision_features"] for x in probes]
        found = {"feature_error": _relative(encoder, probes, expected)}
        if cell.method == "ptq4sam":
            bits = CalibrationConfig(bits=cell.bits).activation_bits
            images = calibration_images(self.frames, plain.image_size, self.args.calibration_frames)
            with quantized_attention(encoder, images, bits):
                found["feature_error_with_attention"] = _relative(encoder, probes, expected)
        return found

    def _probes(self, size: int) -> CalibrationImages:
        return CalibrationImages([s.frame_files[s.frame_count // 2] for s in self._test], size)

    def _scores(self, path: Path) -> dict[str, Any]:
        stills = data.still_frames(self._test, self.args.every)
        config, threads = self.args.config, self.args.threads
        with OfficialModel(path, exclusive=True, config=config, threads=threads) as model:
            video: Evaluation = evaluate(model, self._test, DAVIS, prompt="mask")
            image: Evaluation = evaluate(model, stills, IMAGES, prompt="box")
        return {"J&F": video.j_and_f, "J": video.j, "F": video.f, "mIoU": image.j}


def table(folder: Path) -> str:
    """Return the table of all cells in ``folder``.

    Raises:
        InputError: there are none, or one is damaged.
    """
    rows = [_read(path) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise InputError(f"there are no results in {folder}; run the benchmark first")
    order = {bits: n for n, bits in enumerate((FLOAT, *BITS))}
    rows.sort(key=lambda r: (r["regime"] != REGIMES[0], order.get(r["bits"], 99), r["vrc"]))
    lines = ["| weights | bits | VRC | method | feature error | J&F | mIoU |", "|---" * 7 + "|"]
    for row in rows:
        numbers = [row["results"][key] for key in KEYS]
        shown = [f"{numbers[0]:.4f}", *(f"{number:.2f}" for number in numbers[1:])]
        names = [row[key] for key in ("regime", "bits", "vrc", "method")]
        lines.append(f"| {' | '.join([*names, *shown])} |")
    return "\n".join(lines)


def run_cell(workplace: Workplace, cell: Cell, settings: Mapping[str, Any]) -> None:
    """Measure a cell, unless its file holds results of the same settings."""
    target = workplace.args.output / cell.file
    key = json.loads(json.dumps({**settings, **asdict(cell)}))
    if target.exists() and _read(target)["settings"] == key:
        print(f"kept     {target.name}", flush=True)
        return
    started = time.perf_counter()
    results = workplace.measure(cell)
    seconds = round(time.perf_counter() - started, 1)
    content = {
        **asdict(cell), "settings": key, "seconds": seconds, "environment": environment(),
        "results": results,
    }  # fmt: skip
    with atomic_open(target) as stream:
        stream.write(json.dumps(content, indent=1).encode() + b"\n")
    numbers = "  ".join(f"{name} {results[name]:.4g}" for name in KEYS)
    print(f"measured {target.name:<40}{numbers}", flush=True)


def _relative(encoder: Any, probes: CalibrationImages, expected: Sequence[torch.Tensor]) -> float:
    found = [encoder(x)["vision_features"] for x in probes]
    error = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    return math.sqrt(error / sum(float(b.square().sum()) for b in expected))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if {"settings", "results", *asdict(Cell("", "", "", ""))} <= content.keys():
            return dict(content)
    except (OSError, ValueError, AttributeError):
        pass
    raise InputError(f"{path} is no result of this benchmark; delete it")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("train", "calibration_frames", "test", "frames", "every", "ptq_option")
    return {
        "model_sha256": file_digest(args.checkpoint),
        **{name: getattr(args, name) for name in names},
    }


@command("benchmarks.ptq")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table."""
    args = _parser().parse_args(argv)
    if not args.table:
        if args.davis is None:
            raise InputError("the benchmark needs --davis ROOT; with --table it only prints")
        torch.set_num_threads(args.threads)
        args.output.mkdir(exist_ok=True)
        settings = _settings(args)
        with tempfile.TemporaryDirectory() as folder:
            workplace = Workplace(args, Path(folder))
            for cell in cells(args):
                run_cell(workplace, cell, settings)
    print(table(args.output))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.ptq",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, default=ROOT / "assets" / "demo.pt", help="float checkpoint")
    add("--config", type=Path, help="its configuration, if it carries none")
    add("--davis", type=Path, metavar="ROOT", help="DAVIS 2016, 480p")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--table", action="store_true", help="only print the table of what is there")
    add("--methods", nargs="+", default=list(ptq_names()), choices=ptq_names(), metavar="NAME")
    add("--bits", nargs="+", default=list(BITS), help=f"default: {' '.join(BITS)}")
    add("--vrc", nargs="+", default=list(VRC), help=f"default: {' '.join(VRC)}")
    add("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES)
    add("--train", nargs="+", default=list(data.TRAIN), help="sequences to calibrate on")
    add("--calibration-frames", type=int, default=5, help="of each of them (default 5)")
    add("--test", nargs="+", default=list(data.TEST), help="sequences to score")
    add("--frames", type=int, help="first frames of each (default: all)")
    add("--every", type=int, default=10, help="distance of the single frames (default 10)")
    add("--ptq-option", action="append", default=[], metavar="NAME=X", help="as qsam2-calibrate")
    add("--statistics", type=Path, default=STATISTICS, metavar="CSV", help="for the outliers")
    add("--threads", type=int, default=1, help="of torch (default 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
