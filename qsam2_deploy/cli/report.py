"""``qsam2-report``: a page with pictures about a quantized checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._main import EXIT_OK, Parser, command, require, whole_number

NAME = "qsam2-report"

_DESCRIPTION = """\
Show what quantization does to a model, layer by layer, the worst first.

CHECKPOINT is a quantized checkpoint, calibrated or trained. The result is one HTML page that needs
no network, and a PNG file of each of its pictures beside it."""

_EPILOG = """\
what is on the page:
  always     summary, sizes, the error of every layer, weights and their clips, learning curves
             if CHECKPOINT.log.jsonl is there
  --float    weights before and after
  --data     errors of inputs, inputs and their clips
  both       errors against the lambda of the weight calibration
  --scores   accuracy against size

examples:
  qsam2-report tiny_w4a8.pt -o report
  qsam2-report tiny_w4a8.pt -o tiny.html --float sam2.1_hiera_tiny.pt --data frames/
  qsam2-report tiny_w4a8.pt -o report --data street.mp4 --layers '*.blocks.0.*,*.mlp.layers.1'
  qsam2-report tiny_w4a8.pt -o report --scores w8.json w4.json --models w8.onnx w4.onnx"""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    require(("torch", "sam2", "matplotlib"), "train", "reporting on a checkpoint")
    from ..report import ReportJob, write_report

    job = ReportJob(
        checkpoint=args.checkpoint,
        output=args.output,
        float_checkpoint=args.float,
        data=args.data,
        images=args.images,
        layers=tuple(name.strip() for name in (args.layers or "").split(",") if name.strip()),
        log=args.log,
        scores=tuple(args.scores),
        models=tuple(args.models),
    )
    page, *pictures = write_report(job)
    print(f"wrote {page} and {len(pictures)} pictures beside it")
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", type=Path, help="quantized checkpoint, .pt")
    add("-o", "--output", metavar="PATH", type=Path, required=True, help="folder, or FILE.html")
    add("--float", metavar="FILE", type=Path, help="the float checkpoint that it was made from")
    add("--data", metavar="PATH", type=Path, help="image, folder of images or video")
    add(
        "--images",
        type=whole_number(1),
        default=16,
        metavar="N",
        help="most images to use (default 16)",
    )
    add("--layers", metavar="A,B", help="patterns of layers to draw (default: the worst six)")
    add("--log", metavar="FILE", type=Path, help="log of the training, .log.jsonl")
    many: dict[str, Any] = {"metavar": "FILE", "type": Path, "nargs": "+", "default": []}
    add("--scores", help="results of qsam2-eval --json", **many)
    add("--models", help="models of the scores, if they are not beside them", **many)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
