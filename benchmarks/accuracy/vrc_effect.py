r"""What VRC does to weights: deviations, held-out errors and quantization errors, without training.

Each mode calibrates the checkpoint with the weight outliers of a real model on frames of the
training videos. Every fourth frame is held out; errors of outputs are measured there.

Example::

    python -m benchmarks.accuracy.vrc_effect --davis DAVIS -o vrc/ --bits w4a4 w2a2 \
        --modes noise=1 target=0.1 --json vrc.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._report import benchmark_parser, write_report
from benchmarks.accuracy._workplace import (
    Workplace,
    add_workplace_options,
    prepare,
    workplace_settings,
)
from qsam2_deploy.calibration import CalibrationConfig, CalibrationReport, calibrate_checkpoint
from qsam2_deploy.calibration.vrc import VrcReport
from qsam2_deploy.cli._main import command
from qsam2_deploy.errors import InputError

SMALL_ERROR = 0.01
"""Relative error of a layer's outputs that counts as small."""


def summary(report: CalibrationReport) -> dict[str, Any]:
    """Return the numbers of one calibration; errors are relative to the weights before."""
    layers = [layer.vrc for layer in report.layers if layer.vrc]
    small = [layer for layer in layers if layer.output_error <= SMALL_ERROR]
    lower = [layer for layer in small if _error_after(layer) < layer.weight_error_before]
    return {
        "layers": len(layers),
        "std_lower_by_block": [round(1 - block.std_ratio, 4) for block in report.blocks],
        "output_error_median": median(layer.output_error for layer in layers),
        "output_error_largest": max(layer.output_error for layer in layers),
        "layers_with_small_output_error": len(small),
        "of_these_with_lower_weight_error": len(lower),
        "weight_error_before": median(layer.weight_error_before for layer in layers),
        "weight_error_after": median(map(_error_after, layers)),
        "feature_error": report.feature_error,
    }


def _error_after(layer: VrcReport) -> float:
    """Return the error of rounding the new weights, by the norm of the old ones."""
    return layer.weight_error_after * layer.norm_ratio


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate with every mode at every width."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(args, Path(folder))
        for regime in args.regimes:
            for bits in args.bits:
                for text in args.modes:
                    mode, value = _mode(text)
                    config = CalibrationConfig(
                        bits=bits, vrc=mode, vrc_lambda=value, limit=place.images
                    )
                    report = calibrate_checkpoint(
                        place.checkpoint(regime), place.frames, Path(folder, "q.pt"), config=config
                    )
                    rows.append({"weights": regime, "bits": bits, "vrc": text, **summary(report)})
                    print(_line(rows[-1]), flush=True)
    return rows


def _mode(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise InputError(f"--modes {text} must be such as noise=1 or target=0.1") from error


def _line(row: dict[str, Any]) -> str:
    lower = [f"{100 * share:.0f}" for share in row["std_lower_by_block"]]
    return (
        f"| {row['weights']} | {row['bits']} | {row['vrc']} | {' '.join(lower)} | "
        f"{100 * row['output_error_median']:.2f} % | "
        f"{row['layers_with_small_output_error']} of {row['layers']} | "
        f"{row['weight_error_before']:.3f} | {row['weight_error_after']:.3f} | "
        f"{row['of_these_with_lower_weight_error']} |"
    )


@command("benchmarks.accuracy.vrc_effect")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.accuracy.vrc_effect", __doc__)
    add_workplace_options(parser)
    parser.add_argument(
        "--modes", nargs="+", default=["noise=1", "target=0.1", "target=0.2"], metavar="MODE=X"
    )
    args = parser.parse_args(argv)
    prepare(args)
    write_report("vrc_effect", {"settings": workplace_settings(args), "rows": measure(args)},
                 args.json)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
