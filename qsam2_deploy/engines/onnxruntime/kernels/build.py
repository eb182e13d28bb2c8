"""Compiling the kernels with the system's compiler."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...._common.files import atomic_path, describe_os_error
from ...._common.trust import distrust
from ....errors import EngineError, InputError
from .library import FLAGS, SOURCES, kernels_path

COMPILERS = ("cc", "gcc", "clang")

_PRIVATE = 0o755
_TIME_LIMIT_S = 300


def build_kernels(*, force: bool = False) -> Path:
    """Compile the kernels for this user, unless that was done; return the library's path.

    The file appears whole or not at all. The compiler is ``$CC``, or the first of ``cc``, ``gcc``
    and ``clang`` that there is.

    Args:
        force: compile even if the library is there.

    Raises:
        EngineError: there is no compiler, or it fails.
        InputError: the folder cannot be written to.
    """
    target = kernels_path()
    if target.exists() and not force:
        return target
    compiler = find_compiler()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(describe_os_error(error, target)) from error
    if reason := distrust(target.parent):
        raise InputError(f"cannot build the kernels in {target.parent}: {reason}; correct that")
    with atomic_path(target) as temporary:
        _compile(compiler, temporary)
        temporary.chmod(_PRIVATE)
    return target


def find_compiler() -> list[str]:
    """Return the command of the C compiler.

    Raises:
        EngineError: there is none.
    """
    given = shlex.split(os.environ.get("CC", ""))
    if given:
        if shutil.which(given[0]) is None:
            raise EngineError(f"$CC names {given[0]!r}, which is not there; correct or unset CC")
        return given
    for name in COMPILERS:
        if shutil.which(name) is not None:
            return [name]
    raise EngineError(
        "building the kernels needs a C compiler, and there is none; install gcc or clang, or go "
        "on without the kernels"
    )


def _compile(compiler: Sequence[str], output: Path) -> None:
    sources = [os.fspath(path) for path in sorted(SOURCES.glob("*.c"))]
    command = [*compiler, *FLAGS, *sources, "-lm", "-o", os.fspath(output)]
    try:
        result = subprocess.run(  # noqa: S603  the user's own compiler
            command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{compiler[0]} cannot build the kernels: {error}") from error
    if result.returncode != 0:
        raise EngineError(f"{compiler[0]} cannot build the kernels: {_reason(result.stderr)}")
    try:
        ctypes.CDLL(os.fspath(output)).RegisterCustomOps  # noqa: B018  looked up, not called
    except (OSError, AttributeError) as error:
        raise EngineError(f"{compiler[0]} built kernels that do not load: {error}") from error


def _reason(text: str) -> str:
    """Return the first line of a compiler's messages that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for words in ("No space left", "error"):  # linkers tell of a full disk before they fail
        for line in lines:
            if words in line:
                return line
    return (lines or ["no message"])[0]
