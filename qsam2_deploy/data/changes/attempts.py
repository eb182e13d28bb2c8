"""Random clips that are drawn until one of them can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...errors import VideoError

T = TypeVar("T")

_MOST = 500


def first_usable(attempt: Callable[[], T | None], what: str) -> T:
    """Return the first result of ``attempt`` that is not None.

    Raises:
        VideoError: hundreds of attempts gave None; ``what`` says what they were to show.
    """
    for _ in range(_MOST):
        found = attempt()
        if found is not None:
            return found
    raise VideoError(
        f"none of {_MOST} random clips shows {what}; lower min_area, or use larger objects"
    )
