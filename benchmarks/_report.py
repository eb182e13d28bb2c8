"""What every benchmark writes down beside its numbers: machine, versions, commit."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import qsam2_deploy
from qsam2_deploy._common.files import write_json
from qsam2_deploy._common.machine import cpu_model, usable_cores

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "numpy", "onnx", "onnxruntime", "openvino", "pillow", "sam2", "tensorrt_rtx_cu13_bindings",
    "torch",
)  # fmt: skip


def benchmark_parser(name: str, about: str | None, *, json: bool = True) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, whose module's docstring is the help.

    Args:
        name: of the module.
        about: the docstring.
        json: add the option ``--json``, whose path :func:`write_report` takes.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if json:
        parser.add_argument("--json", type=Path, metavar="OUT", help="for numbers and machine")
    return parser


def report_on_models(
    name: str,
    about: str | None,
    measure: Callable[[Path, int], dict[str, Any]],
    described: Callable[[dict[str, Any]], str],
    argv: Sequence[str] | None,
) -> int:
    """Be the program of a benchmark that measures models again and again; returns its status.

    Args:
        name: of the benchmark.
        about: its docstring, which is the help.
        measure: takes a model and ``--repeat``, and returns a row.
        described: returns what is printed of a row.
        argv: the arguments.
    """
    parser = benchmark_parser(f"benchmarks.speed.{name}", about)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default 5)")
    args = parser.parse_args(argv)
    rows = [measure(model, args.repeat) for model in args.models]
    print(*map(described, rows), sep="\n")
    write_report(name, rows, args.json)
    return 0


def environment() -> dict[str, Any]:
    """Describe the machine, the versions and the commit."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "qsam2_deploy": qsam2_deploy.__version__,
        "commit": _COMMIT,
    }


def write_report(name: str, results: Any, path: Path | None) -> None:
    """Write ``results`` and the environment to ``path``; None writes nothing."""
    if path is None:
        return
    data = {"benchmark": name, "environment": environment(), "results": results}
    write_json(path, data)
    print(f"written: {path}")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def git_commit() -> str:
    """Return the commit, with ``+`` where files differ from it; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    return commit + ("+" if commit and _git("status", "--porcelain") else "")


_COMMIT = git_commit()
"""As the benchmark started: that is the code which it measured, whatever is committed meanwhile."""


def resident_mib() -> float:
    """Return this process's resident memory in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def quiet_official_predictor() -> None:
    """Switch off the progress bars of the ``sam2`` package; call it before importing that."""
    if "tqdm" in sys.modules:
        raise RuntimeError("tqdm reads its settings on import, so this has to come first")
    os.environ["TQDM_DISABLE"] = "1"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
