"""``qsam2-build-kernels``: compile the kernels that make ONNX Runtime faster on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ._main import EXIT_OK, Parser, command

NAME = "qsam2-build-kernels"

_DESCRIPTION = """\
Compile the CPU kernels with the system's C compiler ($CC, cc, gcc or clang) into your cache folder.
From then on the runtime uses them with ONNX Runtime: the same numbers, faster. Setting
QSAM2_KERNELS=0 switches them off; QSAM2_KERNEL_CACHE names another folder."""

_EPILOG = """\
examples:
  qsam2-build-kernels
  CC=clang qsam2-build-kernels --force
  qsam2-build-kernels --if-possible"""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    from ..engines.onnxruntime.kernels import build_kernels, processor_path
    from ..errors import EngineError

    try:
        path = build_kernels(force=args.force)
    except EngineError as error:
        if not args.if_possible:
            raise
        print(f"no kernels: {error}")
        return EXIT_OK
    print(f"{path} ({processor_path(path)})")
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--force", action="store_true", help="compile again, even if they are there")
    add("--if-possible", action="store_true", help="succeed, with a note, if they cannot be built")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
