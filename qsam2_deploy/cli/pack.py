"""``qsam2-pack``: a quantized checkpoint in the bytes that its widths need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ._main import EXIT_OK, Parser, command, require

NAME = "qsam2-pack"

_DESCRIPTION = """\
Store a quantized checkpoint in fewer bytes: the weights of quantized layers become packed
integers, four of 2 bits in a byte. It computes the same to the bit, and can be exported, scored
and loaded as before; the float weights behind the integers are left out, so keep the file that you
packed if you want to train it further. Only --half changes the model, a little."""

_EPILOG = """\
examples:
  qsam2-pack trained_w2a2.pt small_w2a2.pt
  qsam2-pack trained_w2a2.pt small_w2a2.pt --half"""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    require(("torch", "sam2"), "train", "packing a checkpoint")
    # Imported here, so that --help needs nothing but Python.
    from ..quant.checkpoints.storage import pack_checkpoint

    pack_checkpoint(args.checkpoint, args.output, half=args.half)
    before, after = (path.stat().st_size / 1e6 for path in (args.checkpoint, args.output))
    print(f"{args.checkpoint}: {before:.2f} MB\n{args.output}: {after:.2f} MB")
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("checkpoint", metavar="QUANTIZED.pt", type=Path, help="of qsam2-calibrate or qsam2-train")
    add("output", metavar="PACKED.pt", type=Path, help="the file to write")
    add("--half", action="store_true", help="round what is not quantized to half precision")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
