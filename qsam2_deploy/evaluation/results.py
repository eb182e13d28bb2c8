"""Results of an evaluation, in percent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

SCHEMA_VERSION = 1
_DIGITS = 6


class _Scored(Protocol):
    """What has both means."""

    @property
    def j(self) -> float: ...
    @property
    def f(self) -> float: ...


class _OfObjects(Protocol):
    """What has objects."""

    @property
    def objects(self) -> tuple[ObjectResult, ...]: ...


class _JAndF:
    """The mean of J and F, for whatever has them."""

    @property
    def j_and_f(self: _Scored) -> float:
        """Mean of J and F, percent."""
        return (self.j + self.f) / 2


class _MeanOfObjects(_JAndF):
    """J and F as means over objects, each of the same weight, as in the benchmarks."""

    @property
    def j(self: _OfObjects) -> float:
        """Mean over the objects, percent."""
        return _mean(item.j for item in self.objects)

    @property
    def f(self: _OfObjects) -> float:
        """Mean over the objects, percent."""
        return _mean(item.f for item in self.objects)


@dataclass(frozen=True)
class ObjectResult(_JAndF):
    """One object of a sequence.

    Attributes:
        object_id: its number in the dataset.
        j: mean region similarity, percent.
        f: mean boundary accuracy, percent.
        frames: how many frames count.
        worst_frame: the one of them with the lowest J&F.
    """

    object_id: int
    j: float
    f: float
    frames: int
    worst_frame: int


@dataclass(frozen=True)
class SequenceResult(_MeanOfObjects):
    """One sequence or image.

    Attributes:
        name: its name in the dataset.
        objects: those that count.
        frames: frames of the sequence.
        seconds: time that the model took for them, without reading files; None if there was none.
    """

    name: str
    objects: tuple[ObjectResult, ...]
    frames: int
    seconds: float | None = None

    @property
    def fps(self) -> float | None:
        """Frames per second of the model."""
        return self.frames / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Evaluation(_MeanOfObjects):
    """A whole dataset.

    Attributes:
        sequences: in the order of the dataset.
        rule: name of the rule.
        settings: how it was made: prompt, model, digest, versions.
    """

    sequences: tuple[SequenceResult, ...]
    rule: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objects(self) -> tuple[ObjectResult, ...]:
        """All objects of all sequences."""
        return tuple(item for sequence in self.sequences for item in sequence.objects)

    @property
    def fps(self) -> float | None:
        """Frames per second over all sequences; None for results of an earlier run."""
        seconds = sum(sequence.seconds or 0.0 for sequence in self.sequences)
        return sum(sequence.frames for sequence in self.sequences) / seconds if seconds else None

    def to_json(self) -> str:
        """Return the results as JSON text, scores in percent (see ``docs/evaluation.md``)."""
        data: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "rule": self.rule,
            **_scores(self),
            "objects": len(self.objects),
            "frames_per_second": _rounded(self.fps),
            "settings": dict(self.settings),
            "sequences": {item.name: _sequence(item) for item in self.sequences},
        }
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _sequence(item: SequenceResult) -> dict[str, Any]:
    return {
        **_scores(item),
        "frames": item.frames,
        "seconds": _rounded(item.seconds),
        "objects": {
            str(obj.object_id): {
                **_scores(obj),
                "scored_frames": obj.frames,
                "worst_frame": obj.worst_frame,
            }
            for obj in item.objects
        },
    }


def _scores(item: ObjectResult | SequenceResult | Evaluation) -> dict[str, float | None]:
    return {"J": _rounded(item.j), "F": _rounded(item.f), "J&F": _rounded(item.j_and_f)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _mean(values: Iterable[float]) -> float:
    collected = list(values)
    return sum(collected) / len(collected) if collected else 0.0
