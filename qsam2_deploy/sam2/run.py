"""Running a script that was written for ``sam2``."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

from ..errors import InputError, Qsam2Error
from ._hook import answer_imports
from ._settings import CURRENT

TORCHES = ("auto", "installed", "stand-in")


def run_script(
    script: Path,
    arguments: Sequence[str] = (),
    *,
    model: Path | None = None,
    engine: dict[str, Any] | None = None,
    torch: str = "auto",
) -> int:
    """Run a script in this process, with ``sam2`` answered by this package.

    Imports stay answered when it ends: the process is meant to end with the script.

    Args:
        script: the file.
        arguments: its command line.
        model: the ``model.onnx`` that stands for every checkpoint that the script names; default:
            the one beside each.
        engine: arguments of :func:`.open_backend`.
        torch: ``installed`` gives the script real tensors; ``stand-in`` what it needs of torch
            without torch; ``auto`` the former where torch is installed.

    Returns:
        0; the status with which the script exits is passed on as ``SystemExit``.

    Raises:
        InputError: there is no such script, or no such torch.
        Qsam2Error: what the script asked for cannot be done; the message begins with its line.
    """
    if not script.is_file():
        raise InputError(f"there is no script {script}; expected a Python file")
    if torch not in TORCHES:
        raise InputError(f"torch must be one of {', '.join(TORCHES)}, but got {torch!r}")
    CURRENT.model, CURRENT.engine = model, engine
    _answer(torch)
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Qsam2Error as error:
        place = _place(script, error.__traceback__)
        raise InputError(f"{place}{error}") from error
    return 0


def _answer(torch: str) -> None:
    """Answer the imports of ``sam2``, and of ``torch`` where that is wanted."""
    answer_imports()
    if torch == "auto":
        torch = "stand-in" if importlib.util.find_spec("torch") is None else "installed"
    if torch == "stand-in":
        answer_imports("torch", f"{__package__}._torch")
        CURRENT.output = "numpy"
        return
    _answer_cuda(importlib.import_module("torch"))
    CURRENT.output = "torch"


def _answer_cuda(torch: Any) -> None:
    """Let a script that was written for a GPU get past its set-up where there is none."""
    if torch.cuda.is_available():
        return
    torch.cuda.get_device_properties = lambda _device=None: SimpleNamespace(
        major=0, minor=0, name="cpu", total_memory=0
    )
    torch.cuda.set_device = torch.cuda.synchronize = lambda *_args, **_kwargs: None
    torch.Tensor.cuda = lambda tensor, *_args, **_kwargs: tensor
    original = torch.Tensor.to

    def to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Move nothing to a GPU that is not there."""
        kept = [argument for argument in args if not _is_cuda(argument)]
        if _is_cuda(kwargs.get("device")):
            del kwargs["device"]
        return original(tensor, *kept, **kwargs) if kept or kwargs else tensor

    torch.Tensor.to = to


def _is_cuda(device: Any) -> bool:
    return str(device).partition(":")[0] == "cuda"


def _place(script: Path, trace: TracebackType | None) -> str:
    """Return the line of the script that an error came from, as ``script.py:12: ``."""
    lines = [f.lineno for f in traceback.extract_tb(trace) if f.filename == str(script)]
    return f"{script}:{lines[-1]}: " if lines else ""
