"""``qsam2-calibrate``: quantize a checkpoint with some images, without labels or training."""

from __future__ import annotations

import math
from argparse import BooleanOptionalAction, Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._main import CHECKPOINT_HELP, EXIT_OK, Parser, command, require

if TYPE_CHECKING:
    from ..calibration import CalibrationConfig, CalibrationReport

NAME = "qsam2-calibrate"

_BOOLEANS = ("true", "false")

_DESCRIPTION = """\
Quantize a SAM2 checkpoint with some images, without labels or training.

The weights of the image encoder are calibrated (VRC), then every quantizer starts from the clip
of least error on the images. The result is a checkpoint that qsam2-export turns into a model."""

_EPILOG = """\
examples:
  qsam2-calibrate sam2.1_hiera_tiny.pt --data frames/ -o tiny_w8a8.pt
  qsam2-calibrate sam2.1_hiera_tiny.pt --data street.mp4 -o tiny_w4a8.pt --bits w4a8
  qsam2-calibrate sam2.1_hiera_tiny.pt --data street.mp4 -o tiny.pt --scope all --plan plan.yaml
  qsam2-calibrate tiny.pt --data frames/ -o tiny_w4a8.pt --bits w4a8 --ptq gptq
  qsam2-calibrate sam2.1_hiera_tiny.pt --data frames/ -o tiny_w2a2.pt --bits w2a2 --method statsq
  qsam2-calibrate mine.pt --config mine.yaml --data frames/ -o mine_w8a8.pt --report report.json

20 to 50 images like those that the model will see are enough; for --scope all they are best the
frames of videos.

A plan is a YAML file of layer patterns and widths; the last pattern that fits counts:
  image_encoder.trunk.blocks.*.mlp.*: w2a4
  memory_encoder.*: float"""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    require(("torch", "sam2"), "train", "calibrating a checkpoint")
    from .._common.files import check_output
    from ..calibration.calibrate import calibrate_checkpoint

    if args.report:
        check_output(args.report)
    report = calibrate_checkpoint(
        args.checkpoint,
        args.data,
        args.output,
        config=_config(args),
        model_config=args.config,
        image_size=args.image_size,
    )
    if args.report:
        _write_report(args.report, report)
    print(_summary(report))
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", type=Path, help=CHECKPOINT_HELP)
    add("--data", metavar="PATH", type=Path, required=True, help="image, folder of images or video")
    add("-o", "--output", metavar="FILE", type=Path, required=True, help="quantized checkpoint")
    add("--bits", default="w8a8", help="widths of weights and activations, 2 to 8 (default w8a8)")
    add(
        "--scope",
        default="encoder",
        help="what to quantize: encoder (its linear layers, default) or all (every linear layer "
        "and convolution of the model)",
    )
    add(
        "--attention",
        default="float",
        help="products of queries, keys, weights and values in the image encoder and the memory "
        "attention: float (default) or int8",
    )
    add("--plan", type=Path, metavar="FILE", help="widths of single layers, as YAML")
    add(
        "--half",
        action=BooleanOptionalAction,
        help="round steps and numbers that are not quantized to half precision (default: with "
        "--scope all)",
    )
    _add_quantizers(parser)
    add(
        "--vrc",
        default="noise",
        metavar="MODE",
        help="weight calibration: noise (default), trace, absolute, target or none",
    )
    add(
        "--vrc-lambda",
        type=float,
        metavar="X",
        help="number for the mode (default: the mode's own)",
    )
    add(
        "--vrc-scope",
        default="encoder",
        help="linear layers that VRC may change: encoder (default), or all quantized ones",
    )
    add(
        "--vrc-tokens",
        type=int,
        metavar="N",
        help="tokens per layer and image for the Gram matrices of VRC and GPTQ (default: all)",
    )
    add(
        "--ptq",
        metavar="NAME",
        help="post-training method: minmax, percentile, mse, gptq, brecq, qdrop or ptq4sam "
        "(default: the quantizer's own start)",
    )
    add(
        "--ptq-option",
        action="append",
        default=[],
        metavar="NAME=X",
        help="setting of the method, such as iterations=2000 or act_order=no; may be repeated",
    )
    add("--images", type=int, default=50, metavar="N", help="use at most N images (default 50)")
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file of the architecture, if no official one",
    )
    add("--image-size", type=int, metavar="S", help="side of the model's input, a multiple of 32")
    add("--report", type=Path, metavar="FILE", help="write the numbers of every layer as JSON")
    return parser


def _add_quantizers(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--method",
        default="lsc",
        metavar="NAME",
        help="quantizer: lsc (default), lsq, lsq+, minmax, pact, sawb or statsq; or two of them, "
        "for weights and for activations, such as sawb,lsc",
    )
    add(
        "--granularity",
        default="channel",
        help="one step per channel (default) or per tensor of weights",
    )
    add("--weight-grid", metavar="GRID", help="symmetric or midrise (default: the method's own)")
    add(
        "--activation-grid",
        metavar="GRID",
        help="symmetric or affine, which TensorRT INT8 refuses (default: the method's own)",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting of the quantizer, such as momentum=0.95 or learn_alpha=false",
    )


def _options(texts: Sequence[str]) -> tuple[tuple[str, float | bool | str], ...]:
    from ..errors import InputError

    options = []
    for text in texts:
        name, _, value = text.partition("=")
        if not value:
            raise InputError(
                f"--option must be such as momentum=0.95 or learn_alpha=false, but got {text!r}"
            )
        options.append((name, _value(value)))
    return tuple(options)


def _value(text: str) -> float | bool | str:
    if text in _BOOLEANS:
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _config(args: Namespace) -> CalibrationConfig:
    from ..calibration import CalibrationConfig
    from ..calibration.plan import read_plan
    from ..calibration.ptq.options import parse_ptq_options

    return CalibrationConfig(
        bits=args.bits,
        scope=args.scope,
        plan=read_plan(args.plan) if args.plan else (),
        attention=args.attention,
        half=args.half,
        method=args.method,
        weight_grid=args.weight_grid,
        activation_grid=args.activation_grid,
        granularity=args.granularity,
        options=_options(args.option),
        vrc=args.vrc,
        vrc_lambda=args.vrc_lambda,
        vrc_scope=args.vrc_scope,
        vrc_tokens=args.vrc_tokens,
        ptq=args.ptq,
        ptq_options=parse_ptq_options(args.ptq_option),
        limit=args.images,
    )


def _write_report(path: Path, report: CalibrationReport) -> None:
    from .._common.files import atomic_open

    with atomic_open(path) as stream:
        stream.write(report.to_json().encode() + b"\n")


def _summary(report: CalibrationReport) -> str:
    rows = [
        ("layers", _layers(report)),
        ("images", str(report.images)),
        ("weight std reduction", _percent(1 - report.std_ratio)),
        ("VRC output error", _percent(report.output_error)),
        ("feature error", _percent(report.feature_error)),
    ]
    if report.attention:
        rows.insert(1, ("attention products", f"{len(report.attention)} in INT8"))
    dead = sum(layer.dead_channels for layer in report.layers)
    if dead:
        rows.append(("dead channels", str(dead)))
    lines = [f"  {name:<22}{value}" for name, value in rows if value]
    return "\n".join([*lines, f"wrote {report.output}"])


def _layers(report: CalibrationReport) -> str:
    widths = Counter(f"w{layer.weight_bits}a{layer.input_bits}" for layer in report.layers)
    main, *others = (f"{count} at {bits}" for bits, count in widths.most_common())
    return f"{main} ({', '.join(others)})" if others else main


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else ""


if __name__ == "__main__":
    raise SystemExit(main())
