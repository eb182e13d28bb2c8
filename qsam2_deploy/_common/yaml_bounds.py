"""How much a YAML text stands for, worked out before it is built.

Aliases make a text of a kilobyte stand for a billion values, and the reader of nested lists calls
itself. Events are read one after the other instead.
"""

from __future__ import annotations

from typing import Any

MAX_BYTES = 1 << 20
MAX_VALUES = 50_000
MAX_DEPTH = 32


def check_yaml(text: str) -> None:
    """Check the size, depth and number of values of a YAML text, aliases followed.

    Raises:
        ValueError: one is too large; says which.
        yaml.YAMLError: it is no YAML.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} letters")
    counter = _Counter()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        counter.add(event)


class _Counter:
    """Counts the values of each list and mapping, those behind aliases included."""

    def __init__(self) -> None:
        self._anchors: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = [(None, 0)]

    def add(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._count(event.anchor, 1)
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise ValueError(f"the alias {event.anchor!r:.40} is within itself, or of nothing")
            self._count(None, self._anchors[event.anchor])
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._open.append((event.anchor, 1))
            if len(self._open) > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._count(*self._open.pop())

    def _count(self, anchor: str | None, values: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = values
        outer, before = self._open[-1]
        self._open[-1] = outer, before + values
        if before + values > MAX_VALUES:
            raise ValueError(f"it stands for more than {MAX_VALUES} values")
