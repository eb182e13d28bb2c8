"""The kernels built with sanitizers, and processes that can load them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from qsam2_deploy.engines.onnxruntime.kernels.library import FLAGS, SOURCES

COMPILER = "gcc"

# With -O1 and frame pointers a report names the lines; any report ends the process.
SANITIZE = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
)

# ONNX Runtime and Python keep memory until they end, so leaks are not looked for. More than a
# gigabyte at once is a report, too: no call is given nearly as much.
ASAN_OPTIONS = (
    "detect_leaks=0:max_allocation_size_mb=1024:allocator_may_return_null=0:hard_rss_limit_mb=4096:"
    "malloc_context_size=8"
)


def build_sanitized(library: Path, sources: Path = SOURCES) -> Path:
    """Compile ``sources`` with sanitizers into ``library``, and return that.

    Raises:
        RuntimeError: gcc fails; its message.
    """
    files = [os.fspath(path) for path in sorted(sources.glob("*.c"))]
    command = [COMPILER, *FLAGS, *SANITIZE, *files, "-lm", "-o", os.fspath(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return library


@cache
def preloaded() -> str | None:
    """Return the libraries that have to be loaded before all others; None where gcc has none.

    The one of C++ is among them because the sanitizer takes over the throwing of exceptions, which
    ONNX Runtime does, and has to find it when it starts.
    """
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):
        command = [COMPILER, f"-print-file-name={name}"]
        try:
            path = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None
        found.append(path.strip())
    # gcc answers the bare name where it does not know the file.
    return " ".join(found) if all(Path(path).is_absolute() for path in found) else None


def sanitizer_environment(**more: str) -> Mapping[str, str]:
    """Return the environment of a child process that can load what :func:`build_sanitized` made."""
    return {
        **os.environ,
        "LD_PRELOAD": preloaded() or "",
        "ASAN_OPTIONS": ASAN_OPTIONS,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
        # Its thread uses memory after it is freed when a process ends, which is no fault of ours.
        "ORT_DISABLE_TELEMETRY": "1",
        **more,
    }
