"""Runs each input in a process of its own, forked from this one, which has imported everything."""

import faulthandler
import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Any

from qsam2_deploy.errors import Qsam2Error

ACCEPTED, SENTENCE = "accepted", "one sentence"
TRACEBACK, CRASH, HANG, MEMORY, WORDING = "traceback", "crash", "hang", "memory", "wording"
GOOD = (ACCEPTED, SENTENCE)
OUTCOMES = (ACCEPTED, SENTENCE, TRACEBACK, CRASH, HANG, MEMORY, WORDING)

MEMORY_BYTES = 2 << 30
"""What an input may take beyond what the process had before."""

SECONDS = 20.0
_LONGEST = 1500
_MEMORY_WORDS = (
    "bad_alloc", "more memory than there is", "can't allocate", "failed to allocate",
    "not enough memory", "std::length_error",
)  # fmt: skip
"""In sentences that were said because the limit was hit."""


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        kind: one of :data:`OUTCOMES`.
        detail: the sentence, or where it failed.
    """

    kind: str
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether the input was handled as it should be."""
        return self.kind in GOOD


def run_isolated(
    read: Callable[[], Any], *, seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> Outcome:
    """Call ``read`` in a forked process; see `run_batch`."""
    return run_batch(lambda _: read(), [0], seconds=seconds, memory=memory)[0]


def run_batch(
    read: Callable[[int], Any],
    numbers: Sequence[int],
    *,
    seconds: float = SECONDS,
    memory: int = MEMORY_BYTES,
) -> list[Outcome]:
    """Call ``read`` for each number in forked processes.

    A process goes on to the next number until one fails: most of what a fork costs is that every
    page which is touched is copied.

    Args:
        read: gets a number.
        numbers: of the inputs.
        seconds: that each may take.
        memory: that a process may take beyond what this one has.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(numbers):
        outcomes += _run_child(read, numbers[len(outcomes) :], seconds, memory)
    return outcomes


def _run_child(
    read: Callable[[int], Any], numbers: Sequence[int], seconds: float, memory: int
) -> list[Outcome]:
    """Return the outcomes of the first numbers: of all, or up to the first that failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(read, numbers, writing, memory)
    os.close(writing)
    outcomes: list[Outcome] = []
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while len(outcomes) < len(numbers):
            line = _line(pipe, time.monotonic() + seconds)
            if line is None:
                os.kill(child, signal.SIGKILL)
                outcomes.append(Outcome(HANG, f"longer than {seconds:g} s"))
            elif line:
                outcomes.append(Outcome(*json.loads(line)))
            if not line or not outcomes[-1].good:
                break
    _, status = os.waitpid(child, 0)
    if len(outcomes) < len(numbers) and (not outcomes or outcomes[-1].good):
        outcomes.append(Outcome(CRASH, f"status {status}"))
    return outcomes


def _line(pipe: RawIOBase, deadline: float) -> bytes | None:
    """Return the next line; nothing if the pipe was closed, None at the deadline.

    It is read byte by byte, since the next line may have been written already.
    """
    data = b""
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = pipe.read(1)
        if not part:
            return b""
        data += part
    return data


def _be_child(read: Callable[[int], Any], numbers: Sequence[int], pipe: int, memory: int) -> None:
    """Run and report; never returns."""
    try:
        faulthandler.disable()  # a crash is told by the status
        _limit(memory)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        for number in numbers:
            outcome = outcome_of(partial(read, number))
            told = json.dumps([outcome.kind, outcome.detail[:_LONGEST]])
            os.write(pipe, told.encode() + b"\n")
            if not outcome.good:
                break
    finally:
        os._exit(0)


def _limit(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def outcome_of(read: Callable[[], Any]) -> Outcome:
    """Call ``read`` here and say what became of it."""
    try:
        read()
    except Qsam2Error as error:
        return _of_sentence(str(error), type(error).__name__)
    except MemoryError:
        return Outcome(MEMORY, _place())
    except BaseException:  # whatever it is, it is no sentence
        return Outcome(TRACEBACK, _place())
    return Outcome(ACCEPTED)


def _of_sentence(message: str, kind: str) -> Outcome:
    told = f"{kind}: {message}"
    if any(word in message.lower() for word in _MEMORY_WORDS):
        return Outcome(MEMORY, told)
    try:
        message.encode()
    except UnicodeEncodeError:
        return Outcome(WORDING, ascii(told))
    if "\n" in message or not 10 < len(message) < _LONGEST:
        return Outcome(WORDING, told)
    return Outcome(SENTENCE, told)


def _place() -> str:
    """Return the last lines of the traceback, the error first."""
    lines = traceback.format_exc().strip().splitlines()
    return " <- ".join(line.strip()[:200] for line in reversed(lines[-7:]))
