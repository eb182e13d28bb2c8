"""One process or many: started by ``torchrun``, else a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed as dist

from ..errors import InputError


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
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor) / self.size

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


@contextmanager
def joined_world(device: str | None = None) -> Iterator[World]:
    """Join the process group that ``torchrun`` describes in the environment, if there is one.

    Args:
        device: such as ``cpu`` or ``cuda``; the default is CUDA where there is a GPU.

    Raises:
        InputError: there is no such device.
    """
    kind = _checked_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, torch.device(kind))
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(kind)
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    try:
        yield World(dist.get_rank(), size, torch.device(kind))
    finally:
        dist.destroy_process_group()


def _checked_device(name: str) -> str:
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; expected cpu or cuda") from error
    if kind not in ("cpu", "cuda"):
        raise InputError(f"training on {name!r} is not supported; expected cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no GPU on this machine; train on the device cpu")
    return name
