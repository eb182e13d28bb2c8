"""``qsam2-deploy``: all commands under one name, and the completion of their options."""

from __future__ import annotations

import ast
import importlib
import sys
from argparse import Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._common.requirements import check_imported
from .._common.version import __version__
from ..errors import InputError, MissingDependencyError
from ._main import EXIT_OK, Parser, command

NAME = "qsam2-deploy"

_DESCRIPTION = """\
Segment Anything Model 2, from a PyTorch checkpoint to low-bit integer inference.

'qsam2-deploy segment ...' is the same as 'qsam2-segment ...', and so with every command:

{commands}"""

_EPILOG = """\
examples:
  uvx --from 'qsam2-deploy[ort,video]' qsam2-deploy segment cat.mp4 --model model.onnx ...
  qsam2-deploy export --help
  source <(qsam2-deploy completion bash)
  eval "$(qsam2-deploy completion zsh)"

'completion SHELL' writes what bash, zsh or tcsh needs to complete the options of all commands; put
the last lines into ~/.bashrc or ~/.zshrc. The extra 'completion' brings what makes it."""

_SHELLS = ("bash", "zsh", "tcsh")


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command by its name; return its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    known = _commands()
    if args and args[0] in known:
        status: int = _module(args[0]).main(args[1:])
        return status
    parser = command_parser()
    given = parser.parse_args(args)
    if given.command is None:
        parser.print_help()
        return EXIT_OK
    if given.command != "completion":
        parser.error(
            f"there is no command {given.command!r}; expected one of {', '.join(known)}, completion"
        )
    if len(given.arguments) != 1 or given.arguments[0] not in _SHELLS:
        parser.error(f"completion: expected one of {', '.join(_SHELLS)}")
    print(completion(given.arguments[0]))
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    told = "\n".join(f"  {name:<14} {about}" for name, about in _commands().items())
    parser = Parser(NAME, _DESCRIPTION.format(commands=told), _EPILOG)
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="a name from above")
    parser.add_argument("arguments", metavar="...", nargs="*", help="its arguments")
    return parser


def completion(shell: str) -> str:
    """Return a script for a shell that completes the options of all commands.

    Args:
        shell: ``bash``, ``zsh`` or ``tcsh``.

    Raises:
        MissingDependencyError: ``shtab`` is not installed.
        InputError: ``shtab`` does not know the shell.
    """
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError("shtab", "completion", "completing options") from error
    check_imported(shtab, "shtab", "completion", "completing options")
    if shell not in shtab.SUPPORTED_SHELLS:
        raise InputError(f"shtab {shtab.__version__} does not know {shell}; pip install -U shtab")
    scripts = []
    for name in _commands():
        parser = _module(name).command_parser()
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way to them
            _complete_paths(action, shtab)
        scripts.append(shtab.complete(parser, shell))
    return "\n".join(scripts)


def _complete_paths(action: Action, shtab: Any) -> None:
    metavar = str(action.metavar or "")
    if metavar in ("DIR", "ROOT"):
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.type is Path or metavar in ("FILE", "VIDEO", "PATH"):
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _commands() -> dict[str, str]:
    """Return what each command is for, by its name without ``qsam2-``."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if file.stem == Path(__file__).stem:
            continue
        about = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()
        found[file.stem.replace("_", "-")] = (
            about[0].partition(": ")[2].rstrip(".").replace("`", "")
        )
    return found


def _module(name: str) -> Any:
    return importlib.import_module(f".{name.replace('-', '_')}", __package__)


if __name__ == "__main__":
    raise SystemExit(main())
