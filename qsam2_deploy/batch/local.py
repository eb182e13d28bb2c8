"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress

from .jobs import Job
from .options import BatchOptions
from .outcome import Outcome
from .worker import Worker

_worker: Worker | None = None
"""The one of this process, which only :func:`_begin` makes."""


class LocalSlot:
    """A process with one worker; a :class:`~.schedule.Slot`.

    Each is a pool of one process, so that it is known whose video a killed process worked on.
    """

    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def __init__(self, options: BatchOptions, backend: str | None = None) -> None:
        """Start the process; the arguments are those of :class:`~.worker.Worker`."""
        with _no_interrupts():
            self._pool = ProcessPoolExecutor(
                1,
                # A forked process would share locks and threads of the engine with this one.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(options, backend),
            )
        # In a block of its own: the one above ends where that process is started.
        with _no_interrupts():
            self.ready: Future[int] = self._pool.submit(os.getpid)

    def submit(self, job: Job) -> Future[Outcome]:
        """See the protocol."""
        with _no_interrupts():
            return self._pool.submit(_run, job)

    def close(self) -> None:
        """See the protocol."""
        self._pool.shutdown(wait=True)

    def kill(self) -> None:
        """See the protocol."""
        if self.ready.done() and self.ready.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self.ready.result(), signal.SIGKILL)
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started in the block: it is for this one alone.

    A terminal sends the signal to all of them, also when it is closed, as systemd sends SIGTERM,
    and they are to end their videos. The process that keeps account of semaphores is one of them.
    """
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(options: BatchOptions, backend: str | None) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(options, backend)


def _run(job: Job) -> Outcome:
    assert _worker is not None
    return _worker.run(job)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed; nobody would take its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
