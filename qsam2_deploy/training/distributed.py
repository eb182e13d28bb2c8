"""One process or many: started by ``torchrun``, else a single process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from ..errors import InputError

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long processes wait for another one: the first validates and saves while the others wait.

One that ends is not waited for: ``torchrun`` then ends the others.
"""


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """Return the mean of ``value`` over all processes."""
        if self.size == 1:
            return value
        return self._sums((value,))[0] / self.size

    def shares(self, counts: Sequence[int]) -> list[float]:
        """Return this process's share in the sum of each of its ``counts`` over all processes.

        A process that has nothing gets the equal share, so that one can divide by it.
        """
        if self.size == 1:
            return [1.0 for _ in counts]
        totals = self._sums(counts)
        return [
            own / total if own else 1.0 / self.size
            for own, total in zip(counts, totals, strict=True)
        ]

    def joined(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return each tensor, flat, with those of the other processes behind one another.

        Args:
            values: float32 of any sizes, the same number of tensors in every process.
        """
        flat = [value.flatten() for value in values]
        if self.size == 1 or not flat:
            return flat
        counts = torch.tensor([len(value) for value in flat], device=self.device)
        all_counts = [torch.empty_like(counts) for _ in range(self.size)]
        dist.all_gather(all_counts, counts)
        longest = max(int(each.sum()) for each in all_counts)
        own = torch.zeros(longest, device=self.device)
        torch.cat(flat, out=own[: int(counts.sum())])
        all_values = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(all_values, own)
        parts = [
            torch.split(each[: int(sizes.sum())], sizes.tolist())
            for each, sizes in zip(all_values, all_counts, strict=True)
        ]
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return in every process what ``make`` returns in the first one, where alone it runs.

        Args:
            make: reads files, for one, that other machines may not have; the result must be
                something that can be pickled.

        Raises:
            InputError: ``make`` raised it; then every process does.
        """
        if self.size == 1:
            return make()
        sent: list[Any] = [None, None]
        if self.is_first:
            try:
                sent[0] = make()
            except InputError as error:
                sent[1] = error
        dist.broadcast_object_list(sent, src=0, device=self.device)
        made, refused = sent
        if refused is not None:
            raise refused
        found: T = made
        return found

    def _sums(self, values: Sequence[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        sums: list[float] = tensor.tolist()
        return sums


@contextmanager
def joined_world(device: str | None = None) -> Iterator[World]:
    """Join the process group that ``torchrun`` describes in the environment, if there is one.

    Args:
        device: such as ``cpu`` or ``cuda``; the default is CUDA where there is a GPU. In a group
            each process has a GPU of its own, whatever the number of the one that is named.

    Raises:
        InputError: there is no such device, or there are more processes than GPUs.
    """
    own = _checked_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if own.type == "cuda":
        own = _own_gpu() if size > 1 else own
        torch.cuda.set_device(own)
    if size == 1:
        yield World(0, 1, own)
        return
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), size, own)
    finally:
        dist.destroy_process_group()


def _checked_device(name: str) -> torch.device:
    """Return the device of this name; a GPU with its number, 0 unless another one is named."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; expected cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"training on {name!r} is not supported; expected cpu or cuda")
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("PyTorch finds no GPU on this machine; train on the device cpu")
    device, count = torch.device("cuda", device.index or 0), torch.cuda.device_count()
    if device.index >= count:
        raise InputError(
            f"there is no device {name!r}; this machine has cuda:0 to cuda:{count - 1}"
        )
    return device


def _own_gpu() -> torch.device:
    """Return the GPU of this process, one of several on this machine."""
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"there is no GPU for process {number + 1} on this machine, which has {count}; start "
            f"at most {count} processes (--nproc-per-node {count}), or train on the device cpu"
        )
    return torch.device("cuda", number)
