"""What the programs have in common that freeze the names of packages into lists."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def freeze_all(
    parser: argparse.ArgumentParser,
    frozen: Sequence[str],
    lists: Path,
    freeze: Callable[[str, Path], Path],
    argv: Sequence[str] | None,
) -> int:
    """Parse the arguments, freeze each package that they name, and say where its list is.

    Args:
        parser: of the program; gets the arguments here.
        frozen: packages by default, such as ``name==1.2``.
        lists: folder of the lists by default.
        freeze: writes the list of one package into a folder and returns its path.
        argv: arguments; None for those of the process.

    Returns:
        The exit status.
    """
    parser.add_argument(
        "requirements", nargs="*", default=frozen, metavar="PACKAGE==VERSION",
        help=f"packages to list (default: {', '.join(frozen)})",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=lists, help="folder of the lists")
    args = parser.parse_args(argv)
    for requirement in args.requirements:
        path = freeze(requirement, args.output)
        print(f"{requirement} -> {path} ({path.stat().st_size} bytes)")
    return 0
