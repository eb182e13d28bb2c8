"""What all commands have in common: short errors, exit statuses, and a parser to match."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from .._common.requirements import check_installed
from ..errors import MissingDependencyError, Qsam2Error

DEBUG_VARIABLE = "QSAM2_DEBUG"

EXIT_OK = 0
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

CHECKPOINT_HELP = (
    "SAM2 checkpoint: .pt (official, a trainer's, or of this package), .safetensors, a folder that "
    "transformers saved, or a name on the Hugging Face Hub such as facebook/sam2.1-hiera-tiny"
)

Main = Callable[[Sequence[str] | None], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage text.

    Descriptions and epilogs keep their line breaks, so that examples can be shown.
    """

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        """Make the parser of the command ``prog``."""
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print ``message`` in one line and exit with status 2."""
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def whole_number(least: int) -> Callable[[str], int]:
    """Return the ``type`` of an argument that is a whole number from ``least``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least}, but got {text!r}"
            )
        return int(text)

    return parse


def require(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Check that ``packages`` are installed and new enough, without importing them.

    Raises:
        MissingDependencyError: one is not, or is too old; ``extra`` brings it, and it is needed
            for ``purpose``.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, extra, purpose)
        check_installed(package, extra, purpose)


def add_memory_frames(group: argparse._ArgumentGroup) -> None:
    """Add the option of the commands that track with a ``model.onnx``."""
    group.add_argument(
        "--memory-frames",
        type=whole_number(1),
        metavar="N",
        help="attend to N memories, at most the model's own number (the default; 7 in the official "
        "models); fewer are faster, and give other masks",
    )


def add_engine_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the commands that run a model."""
    group.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="engine of a model.onnx: ort, openvino, ort-cuda, or auto (default): the faster CPU "
        "engine, measured when a model first runs if both are installed; a model.engine has its "
        "own",
    )
    group.add_argument(
        "--precision",
        default="exact",
        metavar="NAME",
        help="exact (default), or fast: OpenVINO may compute in bfloat16 what is not quantized, "
        "where the processor has it",
    )
    group.add_argument("--threads", type=whole_number(1), metavar="N", help="threads of the engine")


def command(name: str) -> Callable[[Main], Callable[..., int]]:
    """Make ``main(argv) -> int`` the body of the command ``name``.

    The decorated function never raises for what the user did: a :class:`Qsam2Error` becomes one
    line on standard error and status 2, Ctrl-C status 130, and a closed pipe is quiet. With
    ``QSAM2_DEBUG=1`` in the environment errors keep their traceback. ``argv`` may be left out.
    """

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def wrapper(argv: Sequence[str] | None = None) -> int:
            with _short_warnings(name), _ended_as_by_ctrl_c():
                return _run(name, main, argv)

        return wrapper

    return decorate


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let ``docker stop``, systemd and a terminal that is closed interrupt as Ctrl-C does.

    Who ignores these signals, as ``nohup`` does, or handles them, goes on doing so.
    """
    ours = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGHUP) if ours else ()
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _short_warnings(name: str) -> Iterator[None]:
    """Print warnings as one line without the place in our code, unless it is wanted."""
    before = warnings.formatwarning
    if not _debugging():
        warnings.formatwarning = lambda message, *_args, **_more: f"{name}: warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _run(name: str, main: Main, argv: Sequence[str] | None) -> int:
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return _status(stop)
    except Qsam2Error as error:
        if _debugging():
            raise
        print(f"{name}: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        if _debugging():
            raise
        print(f"\n{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE


def _status(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or EXIT_OK
    print(stop.code, file=sys.stderr)
    return EXIT_ERROR


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _silence_stdout() -> None:
    # The interpreter flushes standard output once more at exit; let that go nowhere.
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
