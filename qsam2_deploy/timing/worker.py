"""A process of its own for each engine: its memory is its own, and its threads are pinned."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..engines.protocol import Backend
from ..errors import EngineError, Qsam2Error
from .steady import FRAME_SIZE, FrameTime, SteadyTracker

OpenBackend = Callable[[], Backend]
"""Makes the backend in the process; it travels there, so it must be picklable."""

_STEP, _MEMORY, _STOP = "step", "memory", "stop"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class TimedProcess:
    """One engine with one model in a process of its own, that tracks a frame when it is told to.

    Attributes:
        load_seconds: from the model's file to an engine that can run.
        products: how the engine multiplies integers, see
            :attr:`~qsam2_deploy.engines.onnxruntime.cpu.OrtBackend.products`; empty for a float
            model.
    """

    def __init__(
        self,
        open_backend: OpenBackend,
        *,
        threads: int,
        objects: int = 1,
        frame_size: tuple[int, int] = FRAME_SIZE,
    ) -> None:
        """Start the process; entering the context waits until it is ready.

        Args:
            open_backend: makes the backend.
            threads: processors that the process may use.
            objects: see :class:`~.steady.SteadyTracker`.
            frame_size: likewise.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, open_backend, threads, objects, frame_size), daemon=True
        )
        with _variables(dict.fromkeys(_THREAD_VARIABLES, str(threads))):
            self._process.start()
        theirs.close()
        self.load_seconds, self.products = 0.0, ""

    def __enter__(self) -> TimedProcess:
        """Wait until the model is loaded and its memories are full.

        Raises:
            EngineError: the process failed; the message is its own.
        """
        try:
            self.load_seconds, self.products = self._receive()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self._end()

    def step(self) -> FrameTime:
        """Track one frame.

        Raises:
            EngineError: the process failed.
        """
        self._connection.send(_STEP)
        result: FrameTime = self._receive()
        return result

    def memory(self) -> tuple[int, int]:
        """Return its resident memory in bytes, now and at most.

        Raises:
            EngineError: the process failed.
        """
        self._connection.send(_MEMORY)
        now, most = self._receive()
        return now, most

    def _receive(self) -> Any:
        try:
            failed, content = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(5)
            raise EngineError(
                "the process that measures has ended by itself, with status "
                f"{self._process.exitcode}; if there was too little memory, measure fewer at once"
            ) from error
        if failed:
            raise EngineError(content)
        return content

    def _end(self) -> None:
        with suppress(OSError):  # it may have ended already
            self._connection.send(_STOP)
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while: a new process reads them before anything of ours."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(
    connection: Connection,
    open_backend: OpenBackend,
    threads: int,
    objects: int,
    frame_size: tuple[int, int],
) -> None:
    """Answer the requests of a `TimedProcess`; each answer says whether it is an error."""
    try:
        _pin(threads)
        began = time.perf_counter()
        with open_backend() as backend:
            loaded = time.perf_counter() - began
            steady = SteadyTracker(backend, objects=objects, frame_size=frame_size)
            products = getattr(backend, "products", "") if backend.spec.quantization else ""
            connection.send((False, (loaded, products)))
            while (request := connection.recv()) != _STOP:
                answer = steady.step() if request == _STEP else resident_memory()
                connection.send((False, answer))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # whoever asked is gone
    except Qsam2Error as error:
        connection.send((True, str(error)))


def _pin(threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def resident_memory() -> tuple[int, int]:
    """Return the resident memory of this process in bytes, now and at most so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return most, most
    sizes = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    now, most = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
