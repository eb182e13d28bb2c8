"""Inputs and outputs of one transformer block after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..._common.progress import progress
from ...errors import Qsam2Error

COPIES = 4
"""Tensors of the size of an input that one image needs: two inputs, a target, the next input."""


class _BlockReachedError(Exception):
    """Ends the forward pass at the block whose input is wanted."""


def first_inputs(
    encoder: Any, block: nn.Module, images: Sequence[torch.Tensor], description: str
) -> list[torch.Tensor]:
    """Return what ``encoder`` gives to ``block`` for every image; later layers do not run."""
    return [
        _input_of(encoder, block, image)
        for image in progress(images, description, total=len(images), unit="image")
    ]


def affordable(block_input: torch.Tensor, budget_bytes: int) -> int:
    """Return how many images' block inputs, such as this one, fit the budget; at least one."""
    return max(1, budget_bytes // (COPIES * block_input.numel() * block_input.element_size()))


@torch.no_grad()
def outputs(block: nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return ``block`` of each of ``inputs``."""
    return [block(x) for x in inputs]


def squared_error(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the sum of the squared differences of both lists."""
    pairs = zip(found, expected, strict=True)
    return sum(float((a - b).double().square().sum()) for a, b in pairs)


@torch.no_grad()
def _input_of(encoder: Any, block: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with _stop_at(block) as seen:
        try:
            encoder(image)
        except _BlockReachedError:
            return seen[0]
    raise Qsam2Error("the image encoder does not run its first block; it cannot be reconstructed")


@contextmanager
def _stop_at(block: nn.Module) -> Iterator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []

    def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].detach())
        raise _BlockReachedError

    handle = block.register_forward_pre_hook(stop)
    try:
        yield seen
    finally:
        handle.remove()
