"""``qsam2-build-engine``: a model.onnx becomes an engine for an NVIDIA GPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ._main import EXIT_OK, Parser, command, require, whole_number

if TYPE_CHECKING:
    from ..engine_build.build import EngineReport, PlanReport

NAME = "qsam2-build-engine"

_DESCRIPTION = """\
Build the engine of a model.onnx with TensorRT or TensorRT-RTX, as one file.

The precision is that of the products of linear layers and convolutions; around them is half
precision, with normalisations, softmaxes and mask logits in single precision. On a machine with
the GPU, each component is run and compared with the model in single precision. One that is wrong
is built again without fused attention; if it stays wrong, nothing is written.

Without paths, --int8, --int4, --fp16 and --auto explain what they need."""

_EPILOG = """\
examples:
  qsam2-build-engine model.onnx model.engine --int8
  qsam2-build-engine model.onnx model.engine --int4 --builder tensorrt-rtx
  qsam2-build-engine model.onnx model.engine --fp16 --max-objects 1 --workspace 2048
  qsam2-build-engine model.onnx model.engine --auto"""

_NEEDS = {
    "int8": """\
--int8 multiplies INT8 weights with INT8 inputs.
  model    quantized, weights and inputs of 8 bits or fewer on symmetric grids; for instance
             qsam2-calibrate checkpoint.pt --data FRAMES -o quantized.pt --bits w8a8
             qsam2-export quantized.pt model.onnx
  inputs   are rounded as they were trained; attention products are in half precision""",
    "int4": """\
--int4 multiplies INT4 weights with inputs in half precision.
  model    quantized, weights of 4 bits or fewer; for instance
             qsam2-calibrate checkpoint.pt --data FRAMES -o quantized.pt --bits w4a8
             qsam2-export quantized.pt model.onnx
  layers   linear ones with at least two blocks of 64 inputs; the others are in half precision
  inputs   are not rounded: finer than what was trained, never coarser""",
    "fp16": """\
--fp16 is in half precision throughout.
  model    any model.onnx, float or quantized; for instance
             qsam2-export checkpoint.pt model.onnx
  inputs   are not rounded, weights are those of the model, rounded once""",
    "auto": """\
--auto builds each component in every precision that the model has, runs and times them on this
machine's GPU, and keeps the fastest that computes what the model does.
  model    any model.onnx; INT8 and INT4 need what --int8 and --int4 say
  gpu      the one that will run the engine, and pip install cuda-python onnxruntime""",
}

_LIBRARIES = """\
  library  one of
             TensorRT 10.3 to 11.x, on the GPU that will run the engine; on a Jetson it is part of
             JetPack: sudo apt install python3-libnvinfer-dev; elsewhere:
             pip install 'qsam2-deploy[tensorrt]'
             TensorRT-RTX 1.7 or later, for RTX GPUs; builds without a GPU:
             pip install 'qsam2-deploy[tensorrt-rtx]'
  then     qsam2-build-engine model.onnx model.engine --{precision}"""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command_parser()
    args = parser.parse_args(argv)
    precision = next((p for p in _NEEDS if getattr(args, p)), None)
    if precision is None:
        parser.error("say which engine to build: --int8, --int4, --fp16 or --auto")
    if args.model is None:
        print(f"{_NEEDS[precision]}\n{_LIBRARIES.format(precision=precision)}")
        return EXIT_OK
    if args.output is None:
        parser.error("say which file to write: MODEL.onnx MODEL.engine")
    require(("onnx",), "ort", "reading a model")
    # Imported here, so that --help needs nothing but Python.
    from .._common.files import check_output, write_json

    if args.json is not None:
        check_output(args.json)
    report = _build(args, precision)
    if not args.quiet:
        print(format_report(report))
    if args.json is not None:
        write_json(args.json, report.to_json())
    return EXIT_OK


def format_report(report: EngineReport) -> str:
    """Return a table of the components, with ``--auto`` one of all that was timed, and the file."""
    lines = [_trials(report), ""] if report.tried else []
    products = "halves" if report.precision == "fp16" else report.precision
    lines.append(f"{'component':18}{products:>8}{'parse s':>9}{'build s':>9}{'MB':>8}")
    lines += [
        f"{plan.component:18}{plan.products:8}{plan.parse_seconds:9.2f}{plan.build_seconds:9.1f}"
        f"{plan.bytes / 1e6:8.1f}{_remark(plan, report)}"
        for plan in report.plans
    ]
    megabytes, version = report.bytes / 1e6, f"{report.builder} {report.builder_version}"
    lines.append(f"self-test: {report.self_test}")
    lines.append(f"wrote {report.path} ({megabytes:.1f} MB, {report.precision}, {version})")
    return "\n".join(lines)


def _remark(plan: PlanReport, report: EngineReport) -> str:
    what = [plan.precision] if report.precision == "mixed" else []
    what += [] if plan.fused_attention else ["attention not fused"]
    return f"  {', '.join(what)}" if what else ""


def _trials(report: EngineReport) -> str:
    """Return the table of what was timed; a star marks what was kept."""
    lines = [f"{'':2}{'component':18}{'precision':11}{'attention':11}{'ms':>9}{'error':>10}"]
    for trial in report.tried:
        kept = trial in report.plans
        error, limit = trial.error or 0.0, trial.tolerance or 0.0
        attention = "fused" if trial.fused_attention else "not fused"
        lines.append(
            f"{'* ' if kept else '  '}{trial.component:18}{trial.precision:11}{attention:11}"
            f"{trial.milliseconds or 0.0:9.3f}{error:10.2g}"
            + ("" if error <= limit else f"  wrong, more than {limit:g}")
        )
    return "\n".join(lines)


def _build(args: argparse.Namespace, precision: str) -> EngineReport:
    from ..engine_build.build import engine_from_onnx
    from ..engines.tensorrt.options import BuildOptions, Limits

    return engine_from_onnx(
        args.model,
        args.output,
        precision=precision,
        builder=args.builder,
        options=BuildOptions(
            workspace_mib=args.workspace,
            optimization_level=args.optimization_level,
            hardware_compatibility=args.hardware_compatibility,
            version_compatible=args.version_compatible,
            compute_capabilities=tuple(args.compute_capability),
        ),
        limits=Limits(args.max_objects, args.max_points, args.max_conditioning),
        fused_attention=not args.no_fused_attention,
        self_test=not args.no_self_test,
        timing_cache=args.timing_cache,
        on_message=partial(print, sep=": ", file=sys.stderr) if args.verbose else None,
        show_progress=False if args.quiet or args.verbose else None,
    )


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", type=Path, nargs="?", help="a model made by qsam2-export")
    add("output", metavar="MODEL.engine", type=Path, nargs="?", help="the file to write")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--int8", action="store_true", help="INT8 weights and inputs")
    kinds.add_argument("--int4", action="store_true", help="INT4 weights, inputs in half precision")
    kinds.add_argument("--fp16", action="store_true", help="half precision")
    kinds.add_argument(
        "--auto",
        action="store_true",
        help="the fastest of these for each component",
    )
    add("--no-fused-attention", action="store_true",
        help="break attention up, where a version's fused kernels are wrong")  # fmt: skip
    add("--no-self-test", action="store_true", help="do not run the engine after the build")
    add("--builder", metavar="NAME", help="tensorrt or tensorrt-rtx (default: what is installed)")
    add("--workspace", type=whole_number(1), metavar="MIB", help="scratch memory of a layer, MiB")
    add("--optimization-level", type=whole_number(0), metavar="N", help="0 (fast) to 5 (thorough)")
    add("--timing-cache", type=Path, metavar="FILE", help="timings to read and write (tensorrt)")
    add("--hardware-compatibility", metavar="LEVEL", default="none",
        help="none, ampere_plus or same_compute_capability (tensorrt)")  # fmt: skip
    add("--version-compatible", action="store_true",
        help="run in later minor versions too, with the lean runtime (tensorrt)")  # fmt: skip
    add("--compute-capability", metavar="X.Y", action="append", default=[],
        help="such as 8.9, or current; may be repeated (tensorrt-rtx)")  # fmt: skip
    add(
        "--max-objects", type=whole_number(1), default=4, metavar="N", help="objects in a batch (4)"
    )
    add(
        "--max-points",
        type=whole_number(2),
        default=16,
        metavar="N",
        help="points of a prompt (16)",
    )
    add("--max-conditioning", type=whole_number(1), default=4, metavar="N",
        help="prompted frames that are attended to at once (4)")  # fmt: skip
    add("--json", metavar="FILE", type=Path, help="write the numbers of the build as JSON")
    add("--verbose", action="store_true", help="print every message of the library")
    add("--quiet", action="store_true", help="no progress bar, no table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
