"""Losses and scores of a run: a line of JSON each, so that a curve can be drawn at any time."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._common.files import atomic_open, describe_os_error, read_bounded
from ..._common.json import loads_bounded
from ...errors import InputError

_MAX_BYTES = 1 << 28
_MAX_LINE = 1 << 20

_CONTENTS = frozenset({"losses", "scores", "note"})
"""Keys of which every line has one."""


class TrainingLog:
    """Writes ``PATH`` line by line and says the same on standard error.

    A line holds ``step``, ``stage``, ``seconds`` and either ``losses`` (means since the line
    before) with ``learning_rate``, or ``scores``, or a ``note``.
    """

    def __init__(self, path: Path, *, every: int = 50, quiet: bool = False) -> None:
        self.path, self._every, self._quiet = path, every, quiet
        self._sums: dict[str, float] = {}
        self._count = 0
        self._anew = False

    def start_anew(self) -> None:
        """Let :meth:`begin` replace the log of an earlier run, which is there until then."""
        self._anew = True

    def begin(self) -> None:
        """Be ready for lines of this run alone: before the first one, or before a state is saved.

        A state without a line so far must not be resumed on the lines of an earlier run.
        """
        if self._anew:
            with atomic_open(self.path):
                pass
            self._anew = False

    def add_step(
        self,
        step: int,
        stage: str,
        seconds: float,
        rate: float,
        losses: Mapping[str, float],
        *,
        last: bool = False,
    ) -> None:
        """Take the losses of one step; ``last`` ends a stage, whose losses are then written."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if last or step % self._every == 0:
            means = {name: round(value / self._count, 5) for name, value in self._sums.items()}
            self._write(
                step=step, stage=stage, seconds=round(seconds, 1), learning_rate=rate, losses=means
            )
            self._sums, self._count = {}, 0

    def add_scores(
        self, step: int, stage: str, seconds: float, scores: Mapping[str, float]
    ) -> None:
        """Take the scores of a validation, in percent."""
        rounded = {name: round(value, 2) for name, value in scores.items()}
        self._write(step=step, stage=stage, seconds=round(seconds, 1), scores=rounded)

    def add_note(self, step: int, stage: str, seconds: float, note: str) -> None:
        """Take a sentence about something that happened in ``step``."""
        self._write(step=step, stage=stage, seconds=round(seconds, 1), note=note)

    def truncate(self, step: int) -> None:
        """Forget what was written after ``step``: a resumed run does it again."""
        lines = [line for line in read_log(self.path) if line["step"] <= step]
        with atomic_open(self.path) as stream:
            stream.writelines(json.dumps(line).encode() + b"\n" for line in lines)

    def _write(self, **line: Any) -> None:
        self.begin()
        try:
            with self.path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise InputError(describe_os_error(error, self.path)) from error
        if not self._quiet:
            print(
                f"{line['stage']} step {line['step']}  {line['seconds'] / 60:.1f} min  "
                f"{_described(line)}",
                file=sys.stderr,
                flush=True,
            )


def _described(line: Mapping[str, Any]) -> str:
    numbers = line.get("losses") or line.get("scores") or {}
    text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    return text or str(line.get("note", ""))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; none if there is no such file, and no half-written last line.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        texts = str(read_bounded(path, _MAX_BYTES), "utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the log {path}: it is not a text file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the log {path}: {reason}") from error
    if texts and not _is_whole(texts[-1]):
        texts.pop()  # the process was killed while it wrote
    return [_line(text, number, path) for number, text in enumerate(texts, 1)]


def log_beside(checkpoint: Path) -> Path:
    """Return where the log of the run that wrote ``checkpoint`` is."""
    return checkpoint.with_name(f"{checkpoint.stem}.log.jsonl")


def _line(text: str, number: int, path: Path) -> dict[str, Any]:
    try:
        line = loads_bounded(text, _MAX_LINE)
        if {"step", "stage", "seconds"} <= line.keys() and line.keys() & _CONTENTS:
            return dict(line)
    except (ValueError, AttributeError):
        pass
    raise InputError(f"line {number} of the log {path} is damaged; delete it")


def _is_whole(text: str) -> bool:
    try:
        loads_bounded(text, _MAX_LINE)
    except ValueError:
        return False
    return True
