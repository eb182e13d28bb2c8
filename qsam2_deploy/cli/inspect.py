"""``qsam2-inspect``: what is in a model.onnx."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ._main import EXIT_OK, Parser, command, require, whole_number

NAME = "qsam2-inspect"

_DESCRIPTION = """\
Say what is in a model.onnx: bits, grids and steps of its layers, where its bytes go, what its
quantizers clip, and which of its products run in integers.

Nothing is assumed: the share of integers is read from the graph that each installed engine makes
(ONNX Runtime, OpenVINO). Work is counted for one tracked frame with one object and all memories."""

_EPILOG = """\
examples:
  qsam2-inspect model.onnx
  qsam2-inspect model.onnx --layers
  qsam2-inspect model.onnx --data street.mp4 --json model.json

"at ends" is the share of weights that have the first or the last level of their grid, "clipped"
that of the inputs which lie outside of theirs, on the frames of --data."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _parser().parse_args(argv)
    require(("onnx",), "ort", "reading a model")
    if args.data is not None:
        require(("onnxruntime",), "ort", "measuring clipped inputs")
    # Imported here, so that --help needs nothing but Python.
    from .._files import atomic_open, check_output
    from ..runtime.inspection.report import inspect_model
    from ..runtime.inspection.table import format_layers, format_summary

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
        with atomic_open(args.json) as stream:
            stream.write(json.dumps(inspection.to_json(), indent=1).encode() + b"\n")
    return EXIT_OK


def _parser() -> Parser:
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", type=Path, help="a model made by qsam2-export")
    add("--layers", action="store_true", help="also print a line for each quantized layer")
    add("--json", metavar="FILE", type=Path, help="write everything, by layer, as JSON")
    add("--data", metavar="PATH", type=Path, help="image, folder of frames or video")
    add("--images", type=whole_number(1), default=8, metavar="N", help="most frames of it (8)")
    add("--threads", type=whole_number(1), metavar="N", help="threads of the engine for --data")
    add("--quiet", action="store_true", help="no progress bar, no table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
