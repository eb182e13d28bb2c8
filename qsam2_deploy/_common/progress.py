"""Progress bars with time left, on standard error, for every long step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

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
    if not (sys.stderr.isatty() if enabled is None else enabled):
        # A bar that is not shown has a lock all the same, which a killed process leaves behind.
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=description, total=total, unit=unit, dynamic_ncols=True)


class StepBar:
    """A bar for work that reports nested phases of so many steps; a context manager.

    It shows the innermost phase.
    """

    def __init__(self, description: str, *, enabled: bool | None = None) -> None:
        """Prepare the bar.

        Args:
            description: what is being done, in a few words.
            enabled: show the bar; the default is only where standard error is a terminal.
        """
        self._description = description
        self._shown = sys.stderr.isatty() if enabled is None else enabled
        self._phases: dict[str, tuple[int, int]] = {}
        self._bar: Any = None

    def __enter__(self) -> StepBar:
        """Show the bar."""
        from tqdm import tqdm

        self._bar = tqdm(
            desc=self._description, unit="step", disable=not self._shown, dynamic_ncols=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def start(self, phase: str, steps: int) -> None:
        """Begin ``phase``, which has so many steps."""
        self._phases[phase] = (0, steps)
        self._show()

    def reach(self, phase: str, step: int) -> None:
        """Say that ``step`` steps of ``phase`` are done."""
        self._phases[phase] = (step, self._phases.get(phase, (0, step))[1])
        self._show()

    def finish(self, phase: str) -> None:
        """Go back to the phase around ``phase``."""
        self._phases.pop(phase, None)
        self._show()

    def _show(self) -> None:
        if self._phases and self._shown:
            phase, (step, steps) = next(reversed(self._phases.items()))
            self._bar.total, self._bar.n = steps, step
            self._bar.set_description(f"{self._description}: {phase}")
