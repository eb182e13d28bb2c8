"""A cache that forgets what was used least recently once it holds too many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class ByteCache:
    """Values by key, at most ``limit`` bytes of them; the newest one stays however large it is.

    Attributes:
        limit: bytes.
        used: bytes that are held now.
    """

    def __init__(self, limit: int) -> None:
        """Hold nothing yet."""
        self.limit, self.used = limit, 0
        self._held: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the value of ``key``, made by ``make`` if it is not there.

        Args:
            key: a value's name; one key always stands for the same value.
            make: makes the value; what it raises goes through, and nothing is kept.
            size: number of bytes of a value.
        """
        if key in self._held:
            self._held.move_to_end(key)
            return cast("T", self._held[key][0])
        value = make()
        self._held[key] = value, size(value)
        self.used += self._held[key][1]
        while self.used > self.limit and len(self._held) > 1:
            _, (_, forgotten) = self._held.popitem(last=False)
            self.used -= forgotten
        return value
