"""Backends that several predictors share, and memories that are not rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import sam2.sam2_video_predictor as upstream
import torch


class SharedBackend:
    """A backend that stays open, for the engine belongs to the predictor that it was taken from."""

    def __init__(self, backend: Any, memories: Any = None) -> None:
        self._backend = backend
        self.spec = backend.spec
        self.memories = memories or getattr(backend, "memories", None)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Any:
        return self._backend.run(component, inputs)

    def __enter__(self) -> SharedBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Float32Memories:
    """A memory store of our tracker that rounds nothing."""

    def keep(self, outputs: Mapping[str, Any]) -> list[npt.NDArray[np.float32]]:
        return [row.copy() for row in np.asarray(outputs["memory"])]

    def gather(self, rows: Sequence[Sequence[npt.NDArray[np.float32]]]) -> npt.NDArray[np.float32]:
        return np.stack([np.stack(row) for row in rows])


class _TorchWithoutBfloat16:
    """The module ``torch``, whose bfloat16 is float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def official_memories(kind: str) -> Iterator[None]:
    """Let the official predictor keep memories in ``bfloat16``, as it does, or in ``float32``."""
    before = upstream.torch
    if kind == "float32":
        upstream.torch = _TorchWithoutBfloat16()
    try:
        yield
    finally:
        upstream.torch = before
