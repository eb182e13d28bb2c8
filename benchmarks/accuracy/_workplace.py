"""What the benchmarks of quantization share: both regimes of a checkpoint, data, and scores."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy import _demo_data as data
from benchmarks.accuracy._outliers import add_outliers, real_peaks
from qsam2_deploy._common.files import file_digest
from qsam2_deploy.calibration.data import CalibrationImages
from qsam2_deploy.data.datasets.davis import DavisSequence, davis_sequences
from qsam2_deploy.errors import InputError
from qsam2_deploy.evaluation.results import Evaluation
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.checkpoints.official_predictor import OfficialModel

ROOT = Path(__file__).parents[2]
REGIMES = ("plain", "outliers")
VRC = ("none", "noise")
FLOAT = "float"
"""Bits and method of the cell of the float model."""
BITS = ("w8a8", "w4a8", "w4a4", "w3a3", "w2a4", "w2a2")


class Workplace:
    """The checkpoints of both regimes, and the data.

    Attributes:
        args: of `add_workplace_options`.
        folder: for files that are needed once.
        frames: folder of the calibration images.
        images: number of them.
        train: sequences to calibrate and train on.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        """Open the data; sequences that are missing or damaged raise VideoError."""
        self.args, self.folder = args, folder
        self._test = [
            data.first_frames(sequence, args.frames)
            for sequence in davis_sequences(args.davis, tuple(args.test))
        ]
        self.frames = folder / "calibration"
        self.train: list[DavisSequence] = davis_sequences(args.davis, tuple(args.train))
        self.images = data.link_evenly(self.train, args.calibration_frames, self.frames)

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

    def probes(self, size: int) -> CalibrationImages:
        """Return the middle frame of each test sequence."""
        return CalibrationImages([s.frame_files[s.frame_count // 2] for s in self._test], size)

    def scores(self, path: Path) -> dict[str, Any]:
        """Return J&F of the first mask on the test videos, and mIoU of boxes on single frames."""
        with self.open(path) as model:
            return self.scores_of(model)

    def scores_of(self, model: OfficialModel) -> dict[str, Any]:
        """Return the same of an open model."""
        stills = data.still_frames(self._test, self.args.every)
        video: Evaluation = evaluate(model, self._test, DAVIS, prompt="mask")
        image: Evaluation = evaluate(model, stills, IMAGES, prompt="box")
        return {"J&F": video.j_and_f, "J": video.j, "F": video.f, "mIoU": image.j}

    def open(self, path: Path) -> OfficialModel:
        """Return a checkpoint in the official predictor."""
        config, threads = self.args.config, self.args.threads
        return OfficialModel(path, exclusive=True, config=config, threads=threads)


@torch.no_grad()
def relative_error(
    encoder: Any, probes: CalibrationImages, expected: Sequence[torch.Tensor]
) -> float:
    """Return the relative error (Frobenius) of the features of an encoder on images."""
    found = [encoder(x)["vision_features"] for x in probes]
    error = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    return math.sqrt(error / sum(float(b.square().sum()) for b in expected))


def workplace_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what all results depend on."""
    names = ("train", "calibration_frames", "test", "frames", "every")
    return {
        "model_sha256": file_digest(args.checkpoint),
        **{name: getattr(args, name) for name in names},
    }


def prepare(args: argparse.Namespace) -> None:
    """Check that there is data to measure on, set torch's threads and make the output folder.

    Raises:
        InputError: no data was named, or no statistics for the outliers.
    """
    if args.davis is None:
        raise InputError("the benchmark needs --davis ROOT; with --table it only prints")
    if REGIMES[1] in args.regimes and args.statistics is None:
        raise InputError(
            f"the regime {REGIMES[1]} needs --statistics CSV of a real checkpoint, which "
            "benchmarks.accuracy.weight_statistics writes; or measure --regimes plain"
        )
    torch.set_num_threads(args.threads)
    args.output.mkdir(exist_ok=True)


def add_workplace_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that a `Workplace` reads."""
    add = parser.add_argument
    add("--checkpoint", type=Path, default=ROOT / "assets" / "demo.pt", help="float checkpoint")
    add("--config", type=Path, help="its configuration, if it carries none")
    add("--davis", type=Path, metavar="ROOT", help="DAVIS 2016, 480p")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--table", action="store_true", help="only print the table of what is there")
    add("--regimes", nargs="+", default=list(REGIMES), choices=REGIMES)
    add("--bits", nargs="+", default=list(BITS), help=f"default: {' '.join(BITS)}")
    add("--vrc", nargs="+", default=list(VRC), help=f"default: {' '.join(VRC)}")
    add("--train", nargs="+", default=list(data.TRAIN), help="sequences to learn from")
    add("--calibration-frames", type=int, default=5, help="of each of them (default 5)")
    add("--test", nargs="+", default=list(data.TEST), help="sequences to score")
    add("--frames", type=int, help="first frames of each (default: all)")
    add("--every", type=int, default=10, help="distance of the single frames (default 10)")
    what = "for the outliers: of a real checkpoint, by benchmarks.accuracy.weight_statistics"
    add("--statistics", type=Path, metavar="CSV", help=what)
    add("--threads", type=int, default=1, help="of torch (default 1)")
