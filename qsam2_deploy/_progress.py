"""Progress bars with time left, on standard error, for every long step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(
    items: Iterable[T],
    description: str,
    *,
    total: int | None = None,
    unit: str = "it",
    enabled: bool | None = None,
) -> Iterator[T]:
    """Iterate over ``items`` behind a tqdm bar.

    Args:
        items: what to iterate over.
        description: what is being done, in a few words.
        total: number of items, where ``items`` has no length.
        unit: what one item is, for the rate.
        enabled: show the bar; the default is only where standard error is a terminal.
    """
    from tqdm import tqdm

    shown = sys.stderr.isatty() if enabled is None else enabled
    yield from tqdm(
        items, desc=description, total=total, unit=unit, disable=not shown, dynamic_ncols=True
    )
