"""Where the compiled kernels are, and whether they can be used."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

from ...._common.files import user_cache_folder
from ...._common.trust import distrust
from ....errors import EngineError

SOURCES = Path(__file__).parent / "src"

FLAGS = (
    "-std=c11",
    "-O3",
    # The order of roundings is part of the numbers, so nothing may be contracted.
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-D_GNU_SOURCE",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
)

CACHE_VARIABLE = "QSAM2_KERNEL_CACHE"
"""Environment variable with the folder of compiled kernels, in place of the user's cache."""

SWITCH_VARIABLE = "QSAM2_KERNELS"
"""Environment variable that keeps the kernels from being used, if it is ``0``."""

BUILD_COMMAND = "qsam2-build-kernels"


@functools.cache
def source_digest() -> str:
    """Return the digest of all that decides what the compiler makes, but for itself."""
    about = (*FLAGS, sys.platform, platform.machine())
    digest = hashlib.sha256("\0".join(about).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def kernels_path() -> Path:
    """Return where the library of these sources is for this user, whether or not it is built."""
    given = os.environ.get(CACHE_VARIABLE)
    folder = Path(given) if given else user_cache_folder() / "kernels"
    return folder.absolute() / f"qsam2-kernels-{source_digest()[:16]}.so"


def find_kernels(wanted: bool | None = None) -> Path | None:
    """Return the library that sessions of ONNX Runtime are to use, or None.

    Args:
        wanted: False for none; True to have an error where it cannot be used; None to use it if
            it is built and ``QSAM2_KERNELS`` is not ``0``, with a warning where it is unusable.

    Raises:
        EngineError: it is wanted, and is not built or cannot be used.
    """
    if wanted is False or (wanted is None and os.environ.get(SWITCH_VARIABLE) == "0"):
        return None
    path = kernels_path()
    if not path.exists():
        if wanted:
            raise EngineError(f"the kernels are not built; run: {BUILD_COMMAND}")
        return None
    reason = _fault(path, path.stat().st_mtime_ns)
    if reason is None:
        return path
    message = f"cannot use the kernels in {path}: {reason}; run: {BUILD_COMMAND} --force"
    if wanted:
        raise EngineError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return None


def processor_path(library: Path, name: str = "") -> str | None:
    """Return the name of the code that a library chooses on this processor.

    Args:
        library: of :func:`find_kernels`.
        name: ask for this one instead of the best; None is returned where it cannot run.
    """
    function = ctypes.CDLL(os.fspath(library)).qsam2_path_name
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    found: bytes | None = function(name.encode())
    return None if found is None else found.decode()


@functools.cache
def _fault(path: Path, _changed: int) -> str | None:
    """Return why a library cannot be used, or None; tried once for each state of the file."""
    return unsafe(path) or refusal(path)


def unsafe(path: Path) -> str | None:
    """Return why code should not be loaded from ``path``: somebody else could have put it there."""
    return distrust(path.parent) or distrust(path)


def refusal(path: Path) -> str | None:
    """Return the first line of what ONNX Runtime says against a library, or None."""
    import onnxruntime

    try:
        onnxruntime.SessionOptions().register_custom_ops_library(os.fspath(path))
    except Exception as error:  # ONNX Runtime raises types of its own, without a base
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None
