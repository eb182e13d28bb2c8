"""What became of a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .jobs import Job

_NUMBERS = ("frames", "width", "height", "objects", "seconds")

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One video of a batch.

    Attributes:
        name: of its results.
        video: its path.
        state: ``done``; ``skipped``, because it was done by an earlier run; or ``failed``.
        frames: frames processed.
        width: of the frames, pixels.
        height: of the frames, pixels.
        objects: objects that were tracked.
        seconds: that it took, without opening the model.
        warnings: sentences about what was not as it should be.
        reason: why it failed, in a sentence.
        hopeless: other videos would fail for the same reason, such as a full disk.
    """

    name: str
    video: str
    state: State
    frames: int = 0
    width: int = 0
    height: int = 0
    objects: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    reason: str = ""
    hopeless: bool = False

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def record(self) -> dict[str, Any]:
        """Return what is kept of it beside the results, as JSON values."""
        return {name: getattr(self, name) for name in ("video", *_NUMBERS, "warnings")}


def failed(job: Job, reason: str, *, hopeless: bool = False) -> Outcome:
    """Return that a video failed."""
    return Outcome(job.name, job.shown, "failed", reason=reason, hopeless=hopeless)


def skipped(job: Job, record: Mapping[str, Any]) -> Outcome:
    """Return that a video was done earlier, as its record says."""
    done = Outcome(job.name, job.shown, "skipped")
    numbers: dict[str, Any] = {name: record.get(name) for name in _NUMBERS}
    # Somebody may have edited the record; the results are there all the same.
    if not all(isinstance(number, (int, float)) for number in numbers.values()):
        return done
    return replace(done, **numbers)
