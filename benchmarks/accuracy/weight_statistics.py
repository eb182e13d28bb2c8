"""Write count, mean, deviation and extremes of every tensor of a checkpoint as CSV.

The outliers of `benchmarks.accuracy.outliers` are copied from such a file of an official
checkpoint.

Example::

    python -m benchmarks.accuracy.weight_statistics sam2.1_hiera_base_plus.pt -o base_plus.csv
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._report import benchmark_parser
from qsam2_deploy._common.files import atomic_open, check_output
from qsam2_deploy.cli._main import command

COLUMNS = ("name", "numel", "mean", "std", "min", "max")


@command("benchmarks.accuracy.weight_statistics")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    from qsam2_deploy.quant.checkpoints.checkpoint import read_tensors

    parser = benchmark_parser("benchmarks.accuracy.weight_statistics", __doc__, json=False)
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="float checkpoint, .pt")
    add("-o", "--output", type=Path, required=True, metavar="CSV")
    args = parser.parse_args(argv)
    check_output(args.output)
    tensors, _ = read_tensors(args.checkpoint)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, tensor in tensors.items():
        x = tensor.double()
        std = float(x.std()) if x.numel() > 1 else 0.0
        row = (x.numel(), float(x.mean()), std, float(x.min()), float(x.max()))
        writer.writerow((name, *row))
    with atomic_open(args.output) as stream:
        stream.write(text.getvalue().encode())
    print(f"wrote {args.output} ({len(tensors)} tensors)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
