"""Stopping between two frames on Ctrl-C, so that files stay whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopFlag:
    """Whether somebody asked to stop."""

    stopped: bool = False


@contextmanager
def stop_on_interrupt(then: Callable[[], None] | None = None) -> Iterator[StopFlag]:
    """Give a flag that the first Ctrl-C sets; a second Ctrl-C raises KeyboardInterrupt.

    Outside of the main thread, or where the program handles the signal itself, nothing changes.

    Args:
        then: is called with the first Ctrl-C, such as to end a wait.
    """
    flag = StopFlag()

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        if flag.stopped:
            raise KeyboardInterrupt
        flag.stopped = True
        if then is not None:
            then()

    previous = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread()
    if not ours or previous is not signal.default_int_handler:
        yield flag
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
