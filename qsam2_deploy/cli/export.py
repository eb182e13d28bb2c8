"""``qsam2-export``: a checkpoint becomes one ``model.onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ._main import CHECKPOINT_HELP, Parser, command, require, whole_number

_EXAMPLES = """\
examples:
  qsam2-export sam2.1_hiera_tiny.pt tiny.onnx
  qsam2-export facebook/sam2.1-hiera-tiny tiny.onnx
  qsam2-export quantized.pt model.onnx
  qsam2-export mine.pt mine.onnx --config mine.yaml --image-size 512
  qsam2-export quantized.pt faster.onnx --pool-memory 2
"""


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        prog="qsam2-export",
        description="Write a SAM 2 or 2.1 checkpoint, float or quantized, as one ONNX file that\n"
        "qsam2-segment runs without torch.",
        epilog=_EXAMPLES,
    )
    add = parser.add_argument
    add("checkpoint", metavar="MODEL.pt", help=CHECKPOINT_HELP)
    add("output", metavar="MODEL.onnx", help="the file to write")
    add(
        "--config",
        metavar="FILE.yaml",
        help="YAML file of the architecture, if it is no official one and not in the checkpoint",
    )
    add(
        "--image-size",
        type=int,
        metavar="S",
        help="side of the model's input in pixels, a multiple of 32 (default: as configured)",
    )
    add(
        "--opset",
        type=int,
        metavar="N",
        help="ONNX opset, 17 to 25 (default: the lowest that has the types of the weights)",
    )
    add(
        "--attention",
        metavar="KIND",
        help="attention products: float exports them without steps, int8 needs their steps "
        "(default: as calibrated)",
    )
    add(
        "--pool-memory",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="average the memory over windows of N x N tokens, which makes each frame cheaper and "
        "changes the model until a checkpoint is trained with it (default: 1, as trained)",
    )
    add(
        "--split",
        metavar="DIR",
        help="also write the four components as ordinary ONNX models into DIR",
    )
    return parser


@command("qsam2-export")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = command_parser().parse_args(argv)
    require(("torch", "sam2", "onnx"), "export", "exporting a checkpoint")
    from ..export import onnx_from_checkpoint

    spec = onnx_from_checkpoint(
        args.checkpoint,
        args.output,
        config=args.config,
        image_size=args.image_size,
        opset=args.opset,
        attention=args.attention,
        pool_memory=args.pool_memory,
    )
    quantized = spec.quantization
    kind = (
        f"W{quantized.weight_bits}A{quantized.activation_bits}, {quantized.layers} layers quantized"
        if quantized
        else "float32"
    )
    size = Path(args.output).stat().st_size / 1e6
    print(f"{spec.name}: {kind}, image size {spec.image_size}")
    if quantized and quantized.attentions:
        print(f"{quantized.attentions} attention products in INT8")
    if spec.memory_pooling > 1:
        side = spec.memory_pooling
        print(f"memory pooled {side}x{side}: other masks than the checkpoint's, unless trained so")
    if quantized and quantized.dead_channels:
        print(f"{quantized.dead_channels} dead output channels (all weights are zero)")
    print(f"wrote {args.output} ({size:.1f} MB)")
    if args.split:
        from ..model_file.bundle import write_split

        for path in write_split(args.output, Path(args.split)):
            print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
