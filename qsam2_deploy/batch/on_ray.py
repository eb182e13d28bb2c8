"""Workers on the machines of an existing Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from .._common.contradictions import reason_of
from .._common.requirements import check_imported
from ..errors import InputError, MissingDependencyError
from .jobs import Job
from .options import BatchOptions
from .outcome import Outcome
from .worker import Worker

_PURPOSE = "running on a Ray cluster"
_SECONDS = 10.0


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, unless this process already is; give the module ``ray``.

    Args:
        address: ``auto`` for the cluster that this machine is part of, ``HOST:PORT`` or
            ``ray://HOST:PORT``.

    Raises:
        MissingDependencyError: Ray is not installed.
        InputError: there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "ray", _PURPOSE) from error
    check_imported(ray, "ray", "ray", _PURPOSE)
    if ray.is_initialized():
        yield ray
        return
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:
        raise InputError(
            f"cannot connect to a Ray cluster at {address} ({reason_of(error)}); start one with: "
            "ray start --head, or leave --address out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that somebody listens at ``HOST:PORT``: Ray itself tries for minutes.

    Raises:
        OSError: nobody does.
        ValueError: the port is no number.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), _SECONDS).close()


def worker_count(ray: Any, threads: int, *, gpu: bool) -> int:
    """Return how many workers the cluster has room for now, at least 1."""
    found = ray.cluster_resources()
    room = found.get("GPU", 0) if gpu else found.get("CPU", 0) // threads
    return max(1, int(room))


class RaySlot:
    """An actor with one worker, wherever the cluster has room; a :class:`~.schedule.Slot`.

    A job is given to it when it runs: one that waits for room would keep the job waiting.
    """

    def __init__(self, ray: Any, options: BatchOptions, *, gpu: bool) -> None:
        """Start the actor on ``options.threads`` processors, or one GPU."""
        self._ray = ray
        self.lost: tuple[type[BaseException], ...] = (ray.exceptions.RayActorError,)
        actor = ray.remote(Worker).options(
            num_cpus=0 if gpu else options.threads or 1, num_gpus=int(gpu), max_restarts=0
        )
        self._actor = actor.remote(options, folder=os.getcwd())  # noqa: PTH109
        self.ready: Future[None] = self._actor.ready.remote().future()

    def submit(self, job: Job) -> Future[Outcome]:
        """See the protocol."""
        future: Future[Outcome] = self._actor.run.remote(job).future()
        return future

    def close(self) -> None:
        """See the protocol."""
        self._ray.kill(self._actor)

    def kill(self) -> None:
        """See the protocol."""
        self.close()
