"""How an engine opens and runs a model: what all backends are told."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import InputError

PRECISIONS = ("exact", "fast")
"""Of what is not quantized; see :class:`BackendOptions`."""


@dataclass(frozen=True)
class BackendOptions:
    """The options of a backend.

    Attributes:
        threads: threads within an operator; None is one for each core that this process may use.
        cache: folder for what opening the model makes (``model_file/lowered_cache.py``). None keeps
            nothing.
        precision: ``exact`` computes what is not quantized in 32-bit floats, so that numbers stay
            on the trained grids. ``fast`` allows bfloat16 there: OpenVINO uses it where the
            processor has it. It is a permission: where there is nothing faster, the result is
            exact, and the backend's ``precision`` says so.

    Raises:
        InputError: a value is not allowed.
    """

    threads: int | None = None
    cache: str | os.PathLike[str] | None = None
    precision: str = "exact"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads must be at least 1, but got {self.threads}")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision must be one of {', '.join(PRECISIONS)}, but got {self.precision!r}"
            )
