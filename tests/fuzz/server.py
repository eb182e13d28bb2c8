"""Runs each input in a process of its own, forked from this one, which has imported everything."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
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
    """Call ``read`` in a forked process.

    The calling process must have no other threads that hold locks.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(read, writing, seconds, memory)
    os.close(writing)
    try:
        message = _received(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
    if message is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if message is None:
        return Outcome(HANG, f"longer than {seconds:g} s")
    if message:
        return Outcome(*json.loads(message))
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return Outcome(HANG, f"longer than {seconds:g} s of processor time")
    return Outcome(CRASH, f"status {status}")


def _received(pipe: int, deadline: float) -> bytes | None:
    """Return all that comes out of ``pipe``; None if it is still open at the deadline."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return data
        data += part


def _be_child(read: Callable[[], Any], pipe: int, seconds: float, memory: int) -> None:
    """Run and report; never returns."""
    try:
        _limit(seconds, memory)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        outcome = outcome_of(read)
        os.write(pipe, json.dumps([outcome.kind, outcome.detail[:_LONGEST]]).encode())
    finally:
        os._exit(0)


def _limit(seconds: float, memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    whole = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
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
