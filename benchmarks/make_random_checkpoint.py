"""Write a checkpoint of an official architecture with random weights.

The weights have the outliers of the real model (see tests/support/weights.py). The file has the
official format, so that every command takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._report import benchmark_parser
from qsam2_deploy.cli._main import command
from qsam2_deploy.quant.checkpoints.architecture import build_model, official_config
from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint
from tests.support.weights import random_state_dict

SIZES = ("tiny", "small", "base_plus", "large")


@command("benchmarks.make_random_checkpoint")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the checkpoint."""
    parser = benchmark_parser("benchmarks.make_random_checkpoint", __doc__, json=False)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    parser.add_argument("--version", choices=("2.0", "2.1"), default="2.1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    prefix = "sam2.1" if args.version == "2.1" else "sam2"
    name = f"{prefix}_hiera_{args.size}"
    save_checkpoint(args.out, random_state_dict(build_model(official_config(name)), args.seed))
    print(f"written: {args.out} ({name}, {args.out.stat().st_size / 2**20:.0f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
