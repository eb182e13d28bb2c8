"""``qsam2-inspect``: what is in a model.onnx or a model.engine."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ._main import EXIT_OK, Parser, command, require, whole_number

NAME = "qsam2-inspect"

_DESCRIPTION = """\
Show what is in a model.onnx: bits, grids and steps of its layers, where its bytes go, what its
quantizers clip, and which of its products run in integers.

Nothing is assumed: the share of integers is read from the graph that each installed engine makes
(ONNX Runtime, OpenVINO). Work is counted for one tracked frame with one object and all memories.

Of a model.engine: builder, GPU, precision, sizes, and what the builder said of fused layers."""

_EPILOG = """\
examples:
  qsam2-inspect model.onnx
  qsam2-inspect model.onnx --layers
  qsam2-inspect model.onnx --data street.mp4 --json model.json
  qsam2-inspect model.engine

"at ends" is the share of weights that have the first or the last level of their grid, "clipped"
that of the inputs which lie outside of theirs, on the frames of --data."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command_parser()
    args = parser.parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    from ..engines.tensorrt.engine_file import is_engine

    if is_engine(args.model):
        if args.layers or args.data is not None:
            parser.error("--layers and --data are for a model.onnx, not for a model.engine")
        return _engine(args)
    return _model(args)


def _engine(args: Namespace) -> int:
    from .._common.files import check_output, write_json
    from ..inspection.engine import format_engine, inspect_engine

    if args.json is not None:
        check_output(args.json)
    report = inspect_engine(args.model)
    if not args.quiet:
        print(format_engine(report))
    if args.json is not None:
        write_json(args.json, report)
    return EXIT_OK


def _model(args: Namespace) -> int:
    require(("onnx",), "ort", "reading a model")
    if args.data is not None:
        require(("onnxruntime",), "ort", "measuring clipped inputs")
    from .._common.files import check_output, write_json
    from ..inspection.report import inspect_model
    from ..inspection.table import format_layers, format_summary

    if args.json is not None:
        check_output(args.json)
    inspection = inspect_model(
        args.model,
        data=args.data,
        limit=args.images,
        threads=args.threads,
        show_progress=False if args.quiet else None,
    )
    if not args.quiet:
        print(format_summary(inspection))
        if args.layers and inspection.layers:
            print(f"\n{format_layers(inspection)}")
    if args.json is not None:
        write_json(args.json, inspection.to_json())
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a model.onnx or a model.engine")
    add("--layers", action="store_true", help="also print a line for each quantized layer")
    add("--json", metavar="FILE", type=Path, help="write everything, by layer, as JSON")
    add(
        "--data",
        metavar="PATH",
        type=Path,
        help="image, folder of frames or video to measure clipping on",
    )
    add("--images", type=whole_number(1), default=8, metavar="N", help="use at most N frames (8)")
    add("--threads", type=whole_number(1), metavar="N", help="threads of the engine for --data")
    add("--quiet", action="store_true", help="no progress bar, no table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
