"""Give a checkpoint the weight outliers of a real one without changing what it computes.

Example::

    python -m benchmarks.accuracy.weight_statistics sam2.1_hiera_base_plus.pt -o base_plus.csv
    python -m benchmarks.accuracy.outliers assets/demo.pt -o demo_outliers.pt \
        --statistics base_plus.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks._report import benchmark_parser
from benchmarks.accuracy._outliers import add_outliers, real_peaks
from qsam2_deploy._common.files import check_output
from qsam2_deploy.cli._main import command


@command("benchmarks.accuracy.outliers")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the checkpoint and print what became of its layers."""
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    args = _parser().parse_args(argv)
    check_output(args.output)
    peaks = real_peaks(args.statistics)
    checkpoint = load_checkpoint(args.checkpoint, config=args.config)
    rows = add_outliers(checkpoint.model, peaks, args.seed)
    save_checkpoint(args.output, checkpoint.model.state_dict(), config=checkpoint.config)
    for row in rows:
        print(f"{row.name:<48}{row.before:7.1f} ->{row.after:6.1f}   wanted {row.wanted:5.1f}")
    before, after = (median(getattr(row, key) for row in rows) for key in ("before", "after"))
    largest = max(row.after for row in rows)
    print(f"max|w| / std: median {before:.1f} -> {after:.1f}, largest {largest:.1f}")
    print(f"wrote {args.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.outliers", __doc__, json=False)
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="float checkpoint, .pt")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the new checkpoint")
    add("--config", type=Path, help="its configuration, if it is no official one")
    what = "of a real checkpoint, by benchmarks.accuracy.weight_statistics"
    add("--statistics", type=Path, required=True, metavar="CSV", help=what)
    add("--seed", type=int, default=0, help="of the choice of channels (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
