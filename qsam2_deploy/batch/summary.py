"""What became of all videos, as a table and in sentences."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from .outcome import Outcome

_COLUMNS = ("name", "state", "video", "frames", "width", "height", "objects", "seconds", "fps",
            "reason", "warnings")  # fmt: skip


@dataclass(frozen=True)
class BatchSummary:
    """What a batch did.

    Attributes:
        outcomes: one for each video that was begun, in the order in which they were given.
        not_begun: names of the videos that were not.
        seconds: of the whole run.
        workers: that worked at the same time.
        engine: the engine, where it is known.
        table: where the table of all videos is; empty if it could not be written.
        warnings: sentences about what was not as it should be.
        interrupted: Ctrl-C ended the run early.
        stopped: why the run ended early otherwise, in a sentence.
    """

    outcomes: tuple[Outcome, ...]
    not_begun: tuple[str, ...]
    seconds: float
    workers: int
    engine: str = ""
    table: str = ""
    warnings: tuple[str, ...] = ()
    interrupted: bool = False
    stopped: str = ""

    def of(self, state: str) -> list[Outcome]:
        """Return the outcomes of a state."""
        return [outcome for outcome in self.outcomes if outcome.state == state]

    @property
    def frames(self) -> int:
        """Frames that were processed by this run."""
        return sum(outcome.frames for outcome in self.of("done"))

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, all workers together."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def table(outcomes: Sequence[Outcome]) -> bytes:
    """Return a CSV file with a line for each video."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for item in outcomes:
        numbers = (item.frames, item.width, item.height, item.objects)
        writer.writerow(
            [item.name, item.state, item.video]
            + ([""] * 6 if item.state == "failed" else [*numbers, item.seconds, f"{item.fps:.2f}"])
            + [item.reason, " ".join(item.warnings)]
        )
    return text.getvalue().encode()
