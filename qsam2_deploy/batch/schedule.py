"""Handing videos to workers, some of which may be killed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

from ..errors import EngineError
from ..media.reading.interrupt import StopFlag
from .jobs import Job
from .outcome import Outcome, failed

ATTEMPTS = 2
"""How often a video is tried whose worker is killed."""

_POLL_SECONDS = 1.0


class Slot(Protocol):
    """A worker that may be killed, and then is never used again."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What futures raise when the worker was killed."""

    @property
    def ready(self) -> Future[Any]:
        """Is done when the worker runs."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Begin to segment a video; one at a time."""

    def close(self) -> None:
        """End the worker; it has nothing to do."""

    def kill(self) -> None:
        """End the worker, whatever it does."""


class Schedule:
    """Runs jobs in slots; every job has one outcome.

    Attributes:
        left: jobs that were not begun, because the run was stopped.
    """

    def __init__(
        self, jobs: Sequence[Job], open_slot: Callable[[], Slot], workers: int, stop: StopFlag
    ) -> None:
        """Begin nothing yet.

        Args:
            jobs: what to run.
            open_slot: starts a worker.
            workers: how many of them.
            stop: says that no further job is to be begun.
        """
        self.left: deque[Job] = deque(jobs)
        self._open, self._stop = open_slot, stop
        self._workers = min(workers, len(jobs))
        self._starting: dict[Future[Any], Slot] = {}
        self._working: dict[Future[Outcome], tuple[Slot, Job]] = {}
        self._kills: Counter[str] = Counter()
        self._hopeless = False
        self._lost, self._most_lost = 0, 4 * (self._workers + 1)
        self._most_lost_later = self._most_lost + ATTEMPTS * len(jobs)

    def run(self) -> Iterator[Outcome]:
        """Yield outcomes as they come, until all jobs have one or the run is stopped.

        Closing the iterator kills the workers.

        Raises:
            EngineError: workers are killed again and again before any video is done.
        """
        try:
            for _ in range(self._workers):
                self._start()
            while self._working or (self.left and not self._stopped):
                futures: list[Future[Any]] = [*self._starting, *self._working]
                done, _ = wait(futures, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield from self._take(future)
        except BaseException:
            self._end(kill=True)
            raise
        self._end(kill=False)

    @property
    def _stopped(self) -> bool:
        return self._stop.stopped or self._hopeless

    def _start(self) -> None:
        slot = self._open()
        self._starting[slot.ready] = slot

    def _take(self, future: Future[Any]) -> Iterator[Outcome]:
        if future in self._starting:
            slot = self._starting.pop(future)
            if self._survived(future, slot):
                self._give(slot)
            return
        slot, job = self._working.pop(future)
        if self._survived(future, slot):
            outcome: Outcome = future.result()
            # Now it is known that workers can do it, so each video may have its attempts.
            self._most_lost = self._most_lost_later
            self._hopeless |= outcome.hopeless
            self._give(slot)
            yield outcome
            return
        self._kills[job.name] += 1
        if self._kills[job.name] < ATTEMPTS:
            self.left.append(job)
        else:
            yield failed(
                job,
                f"the worker was killed {ATTEMPTS} times while it segmented {job.shown}, perhaps "
                "because memory ran out; run fewer workers, or try the video alone",
            )

    def _give(self, slot: Slot) -> None:
        """Give a worker its next job, or end it."""
        if not self.left or self._stopped:
            slot.close()
            return
        try:
            future = slot.submit(self.left[0])
        except slot.lost:  # between two jobs; none of them is to blame
            self._replace(slot)
            return
        self._working[future] = slot, self.left.popleft()

    def _survived(self, future: Future[Any], slot: Slot) -> bool:
        """Return whether the worker is alive; if not, start another one."""
        error = future.exception()
        if error is None:
            return True
        if not isinstance(error, slot.lost):
            slot.kill()
            raise error
        self._replace(slot)
        return False

    def _replace(self, slot: Slot) -> None:
        slot.kill()
        self._lost += 1
        if self._lost > self._most_lost:
            raise EngineError(
                f"workers were killed {self._lost} times, perhaps because memory ran out; run "
                "fewer workers, or a smaller model"
            )
        self._start()

    def _end(self, *, kill: bool) -> None:
        slots = [*self._starting.values(), *(slot for slot, _ in self._working.values())]
        for slot in slots:
            if kill:
                slot.kill()
            else:
                slot.close()
        self._starting.clear()
        self._working.clear()
