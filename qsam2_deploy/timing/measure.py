"""Several engines and models that take turns, so that the machine's other load hits all alike."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .._common.machine import usable_cores
from .._common.progress import progress
from ..errors import EngineError, InputError
from ..spec import COMPONENTS
from .steady import FRAME_SIZE, FrameTime
from .worker import OpenBackend, TimedProcess


@dataclass
class Timing:
    """What was measured of one contender.

    Attributes:
        frames: one for each round.
        load_seconds: from the model's file to an engine that can run.
        memory: resident memory of its process in bytes after the last frame.
        peak_memory: the most that it was.
        products: how the engine multiplies integers; empty for a float model.
        error: why there is nothing; empty if all went well.
    """

    frames: list[FrameTime] = field(default_factory=list)
    load_seconds: float = 0.0
    memory: int = 0
    peak_memory: int = 0
    products: str = ""
    error: str = ""

    @property
    def milliseconds(self) -> float:
        """Median time of a frame."""
        return 1e3 * median(frame.total for frame in self.frames)

    @property
    def spread(self) -> tuple[float, float]:
        """Shortest and longest time of a frame in milliseconds."""
        totals = [1e3 * frame.total for frame in self.frames]
        return min(totals), max(totals)

    @property
    def parts(self) -> dict[str, float]:
        """Median milliseconds of each component, and of the ``rest`` outside of the engine."""
        found = {
            name: 1e3 * median(frame.components.get(name, 0.0) for frame in self.frames)
            for name in COMPONENTS
        }
        return {**found, "rest": 1e3 * median(frame.rest for frame in self.frames)}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        if self.error:
            return {"error": self.error}
        return {
            "frame_ms": self.milliseconds,
            "frames_ms": [1e3 * frame.total for frame in self.frames],
            "parts_ms": self.parts,
            "load_seconds": self.load_seconds,
            "memory_bytes": self.memory,
            "peak_memory_bytes": self.peak_memory,
            "products": self.products,
        }


def measure_in_turns(
    contenders: Mapping[str, OpenBackend],
    *,
    threads: int = 1,
    rounds: int = 5,
    objects: int = 1,
    frame_size: tuple[int, int] = FRAME_SIZE,
    show_progress: bool | None = None,
) -> dict[str, Timing]:
    """Time a tracked frame of each contender, a frame of each before the next of any.

    One round comes before, and is not counted. What cannot be opened or run is left out and says
    why; the others go on.

    Args:
        contenders: what makes the backend, by name; each gets a process of its own.
        threads: processors that each process may use.
        rounds: frames of each.
        objects: tracked in each frame.
        frame_size: height and width of the video in pixels.
        show_progress: show a progress bar; by default if standard error is a terminal.

    Raises:
        InputError: ``threads`` or ``rounds`` is below 1, or there are fewer processors.
    """
    _check(threads, rounds)
    timings = {name: Timing() for name in contenders}
    with ExitStack() as stack:
        running: dict[str, TimedProcess] = {}
        for name, opener in contenders.items():
            process = TimedProcess(opener, threads=threads, objects=objects, frame_size=frame_size)
            try:
                running[name] = stack.enter_context(process)
            except EngineError as error:
                timings[name].error = str(error)
            timings[name].load_seconds = process.load_seconds
            timings[name].products = process.products
        bar = progress(range(rounds + 1), "measuring", unit="round", enabled=show_progress)
        for number in bar:
            _round(running, timings, counted=number > 0)
        for name, process in running.items():
            timings[name].memory, timings[name].peak_memory = process.memory()
    return timings


def _round(
    running: dict[str, TimedProcess], timings: Mapping[str, Timing], *, counted: bool
) -> None:
    """Let each contender track one frame; one that fails leaves ``running``."""
    for name in list(running):
        try:
            frame = running[name].step()
        except EngineError as error:
            timings[name].error = str(error)
            del running[name]
            continue
        if counted:
            timings[name].frames.append(frame)


def _check(threads: int, rounds: int) -> None:
    for what, value in (("threads", threads), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{what} must be at least 1, but got {value}")
    if threads > usable_cores():
        raise InputError(
            f"there are {usable_cores()} processors for {threads} threads; ask for fewer threads"
        )
