"""``qsam2-run``: a script for the package ``sam2`` on an exported model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ._main import Parser, add_engine_options, command

NAME = "qsam2-run"

_DESCRIPTION = """\
Run a Python script that was written for the package sam2, or for its real-time fork, on an
exported model, without sam2 and without a change: its imports of sam2 get the predictors of this
package. For a checkpoint model.pt that the script names, the model.onnx beside it is taken, or
that of --model. Where torch is installed, results are tensors; where it is not, imports of torch
get a small stand-in that knows what such scripts do with masks. docs/scripts.md lists what was
tried."""

_EPILOG = """\
examples:
  qsam2-run track.py
  qsam2-run --model tiny_w8a8.onnx tools/vos_inference.py --base_video_dir JPEGImages ..."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    from ..sam2.run import run_script

    chosen = {"backend": args.backend, "threads": args.threads, "precision": args.precision}
    return run_script(
        args.script, args.arguments, model=args.model, engine=chosen, torch=args.torch
    )


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("script", metavar="SCRIPT.py", type=Path, help="the script")
    add("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its own arguments")
    add("--model", metavar="FILE", type=Path, help="stands for every checkpoint of the script")
    add(
        "--torch",
        default="auto",
        metavar="NAME",
        help="installed (real tensors), stand-in (without torch), or auto (default): what is there",
    )
    add_engine_options(parser.add_argument_group("engine"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
