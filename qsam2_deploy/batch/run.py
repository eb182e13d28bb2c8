"""Segmenting many videos from files to files: the library call behind ``qsam2-batch``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .._common.machine import usable_threads
from .._common.progress import progress
from ..engines.registry import AUTO
from ..errors import InputError
from ..media.reading.interrupt import stop_on_interrupt
from ..predictors.segmenter import VideoSegmenter
from .jobs import Job
from .local import LocalSlot
from .options import BatchOptions
from .outcome import Outcome
from .places import store_at
from .schedule import Schedule, Slot
from .store import SUMMARY
from .summary import BatchSummary, table


@dataclass(frozen=True)
class _Crew:
    """Who does the work.

    Attributes:
        open_slot: starts a worker.
        workers: how many at the same time.
        engine: what they run on, if that is known.
    """

    open_slot: Callable[[], Slot]
    workers: int
    engine: str


def run_batch(
    jobs: Sequence[Job],
    options: BatchOptions,
    *,
    workers: int | None = None,
    address: str | None = None,
    show_progress: bool | None = None,
) -> BatchSummary:
    """Segment videos, several at the same time; each that is finished already is skipped.

    A video that fails ends nothing: the sentence about it is in the summary, and the next run
    tries it again. One whose worker is killed is tried twice. Ctrl-C lets the videos that are
    being segmented end, and a second one kills the workers. Processes are started anew, so a
    script that calls this needs ``if __name__ == "__main__":``.

    Args:
        jobs: the videos.
        options: what is the same for all of them.
        workers: how many at the same time; default: as many as there are cores for, and 1
            for a ``model.engine``. On a cluster: what it has room for.
        address: of a Ray cluster, which then does the work; default: processes of this machine.
        show_progress: show a progress bar; by default if standard error is a terminal.

    Raises:
        InputError: the results cannot be written there, or two videos have the same name.
        ModelFileError: the model cannot be used.
        MissingDependencyError: the engine, fsspec or Ray is not installed.
        EngineError: workers are killed again and again.
    """
    _check(jobs)
    store = store_at(options.out)
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    warnings: list[str] = []
    with (
        store.open(),
        _crew(options, workers, address) as crew,
        stop_on_interrupt() as interrupt,
    ):
        schedule = Schedule(jobs, crew.open_slot, crew.workers, interrupt)
        outcomes += progress(
            schedule.run(), "segmenting", total=len(jobs), unit="video", enabled=show_progress
        )
        hopeless = [outcome.reason for outcome in outcomes if outcome.hopeless]
        order = {job.name: number for number, job in enumerate(jobs)}
        outcomes.sort(key=lambda outcome: order[outcome.name])
        try:
            written = store.write_summary(table(outcomes))
        except InputError as error:
            written = ""
            if not hopeless:  # a full disk is said once
                warnings.append(str(error))
    return BatchSummary(
        tuple(outcomes),
        tuple(job.name for job in schedule.left),
        time.perf_counter() - began,
        crew.workers,
        crew.engine,
        written,
        tuple(warnings),
        interrupt.stopped,
        hopeless[0] if hopeless else "",
    )


def _check(jobs: Sequence[Job]) -> None:
    if not jobs:
        raise InputError("there is no video to segment; give at least one")
    videos: dict[str, str] = {}
    for job in jobs:
        if job.name in videos:
            raise InputError(
                f"{videos[job.name]} and {job.shown} have the same name {job.name!r}, so their "
                "results would overwrite each other; give each its own"
            )
        if job.name == SUMMARY:
            raise InputError(f"{job.shown} has the name of the table, {SUMMARY}; give it another")
        videos[job.name] = job.shown


@contextmanager
def _crew(options: BatchOptions, workers: int | None, address: str | None) -> Iterator[_Crew]:
    gpu = Path(options.model).suffix == ".engine" or options.backend == "ort-cuda"
    # What is wrong with the model is said here, and not once by each worker.
    segmenter = VideoSegmenter(
        options.model, options.backend, threads=options.threads, precision=options.precision,
        memory_frames=options.memory_frames, cache=options.cache,
    )  # fmt: skip
    if address is not None:
        from .on_ray import RaySlot, connected, worker_count

        with connected(address) as ray:
            count = workers or worker_count(ray, options.threads or 1, gpu=gpu)
            yield _Crew(partial(RaySlot, ray, options, gpu=gpu), count, "")
        return
    chosen, engine = _engine(segmenter, options, gpu=gpu)
    count = workers or (1 if gpu else max(1, usable_threads() // (options.threads or 1)))
    yield _Crew(partial(LocalSlot, options, chosen), count, engine)


def _engine(
    segmenter: VideoSegmenter, options: BatchOptions, *, gpu: bool
) -> tuple[str | None, str]:
    """Return the engine to name, and what it is called for people.

    Were ``auto`` left to the workers, each would measure while the others compute, and they might
    choose different engines.
    """
    if gpu or options.backend != AUTO:
        return None, segmenter.engine
    with segmenter:
        engine = segmenter.engine
    return engine.partition(",")[0], engine
