"""Items from a thread that reads to the one that works on them."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Holds one item at a time.

    Attributes:
        newest: an item replaces the one that nobody has taken. Otherwise it waits for its turn.
        left_out: items that were replaced after the first one was taken.
        ended: nothing more comes.
        stopped: nobody wants more.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.newest = False
        self.left_out = 0
        self.ended = False
        self.stopped = False
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._replaced: int | None = None
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Hand over ``item``; return whether more is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self.newest or self._item is None or self.stopped)
            if self.stopped:
                return False
            if self._item is not None and self._replaced is not None:
                self._replaced += 1
            self._item = item
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; ``error`` is raised where the next item would be taken."""
        with self._changed:
            self.ended, self._error = True, error
            self._changed.notify_all()

    def peek(self, seconds: float | None) -> Item | None:
        """Wait for an item and leave it here; None if none came in ``seconds``, or at the end.

        Raises:
            BaseException: the error that it ended with.
        """
        with self._changed:
            self._wait(seconds)
            return self._item

    def take(self) -> Item | None:
        """Wait for the next item; None at the end.

        Raises:
            BaseException: the error that it ended with.
        """
        with self._changed:
            self._wait(None)
            item, self._item = self._item, None
            # What came before the first item was taken is not missing from anything.
            if item is not None:
                self.left_out += self._replaced or 0
                self._replaced = 0
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        """End at once, on both sides; may be called by a signal handler."""
        with self._changed:
            self.stopped, self._item = True, None
            self._changed.notify_all()

    def pause(self, seconds: float) -> bool:
        """Wait on the side that reads; return whether more is wanted then."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped, seconds)
            return not self.stopped

    def _wait(self, seconds: float | None) -> None:
        self._changed.wait_for(
            lambda: self._item is not None or self.ended or self.stopped, seconds
        )
        if self._item is None and self._error is not None and not self.stopped:
            raise self._error
