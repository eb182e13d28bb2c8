"""``qsam2-bench``: how fast a model is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingDependencyError
from ._main import EXIT_ERROR, EXIT_OK, Parser, command, require, whole_number

if TYPE_CHECKING:
    from ..timing.worker import OpenBackend

NAME = "qsam2-bench"

_DESCRIPTION = """\
Time a tracked frame of one or more models, on this machine, by component.

All memories are full, as after the first frames of a video. Each model and engine has a process
of its own, pinned to as many processors as it has threads, and they take turns frame by frame, so
that ratios hold even while other programs run. The masks themselves are not checked."""

_EPILOG = """\
examples:
  qsam2-bench model.onnx
  qsam2-bench float.onnx w8a8.onnx --backend ort --backend openvino --threads 4
  qsam2-bench model.onnx --objects 4 --frames 20 --json times.json

The first line of the table is what the ratios refer to. "rest" is the time outside of the engine:
resizing the frame and the masks, and choosing memories. "MB" is the memory of the process."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command_parser()
    args = parser.parse_args(argv)
    require(("onnx",), "ort", "reading a model")
    # Imported here, so that --help needs nothing but Python.
    from .._common.files import check_output, write_json
    from ..timing.measure import measure_in_turns
    from ..timing.table import format_timings, timings_to_json

    if args.json is not None:
        check_output(args.json)
    contenders = _contenders(
        args.models, args.backend or _installed(), args.threads, args.precision
    )
    timings = measure_in_turns(
        contenders,
        threads=args.threads,
        rounds=args.frames,
        objects=args.objects,
        show_progress=False if args.quiet else None,
    )
    if not args.quiet:
        print(format_timings(timings))
    if args.json is not None:
        data = timings_to_json(timings, threads=args.threads, objects=args.objects)
        write_json(args.json, data)
    return EXIT_ERROR if all(timing.error for timing in timings.values()) else EXIT_OK


def _contenders(
    models: Sequence[Path], backends: Sequence[str], threads: int, precision: str
) -> dict[str, OpenBackend]:
    """Return what opens each model in each engine; names are as short as they can be."""
    from ..engines.open import open_backend
    from ..model_file.bundle import read_bundle

    found: dict[str, OpenBackend] = {}
    for model in models:
        read_bundle(model)  # a model that cannot be used ends the command before anything is timed
        name = model.name if len({path.name for path in models}) == len(models) else str(model)
        for backend in backends:
            found[f"{name}, {backend}"] = partial(
                open_backend, model, backend, threads, precision=precision
            )
    return found


def _installed() -> list[str]:
    """Return the engines that are installed.

    Raises:
        MissingDependencyError: none is.
    """
    from ..engines.registry import installed_engines

    found = installed_engines()
    if not found:
        raise MissingDependencyError("onnxruntime", "ort", "timing a model")
    return found


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("models", metavar="MODEL.onnx", type=Path, nargs="+", help="made by qsam2-export")
    add("--backend", action="append", choices=("openvino", "ort"), metavar="NAME",
        help="ort or openvino; may be repeated (default: all that are installed)")  # fmt: skip
    add(
        "--threads", type=whole_number(1), default=1, metavar="N", help="threads of each engine (1)"
    )
    add("--precision", default="exact", metavar="NAME",
        help="exact (default), or fast: bfloat16 where engine and processor have it")  # fmt: skip
    add("--objects", type=whole_number(1), default=1, metavar="N", help="tracked objects (1)")
    add("--frames", type=whole_number(1), default=5, metavar="N", help="frames to time (5)")
    add("--json", metavar="FILE", type=Path, help="write all numbers, machine and versions")
    add("--quiet", action="store_true", help="no progress bar, no table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
