"""Stopping between two frames on Ctrl-C, so that files stay whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopFlag:
    """Whether somebody asked to stop."""

    stopped: bool = False


@contextmanager
def stop_on_interrupt(then: Callable[[], None] | None = None) -> Iterator[StopFlag]:
    """Give a flag that the first Ctrl-C sets; a second Ctrl-C raises KeyboardInterrupt.

    So do SIGTERM and SIGHUP where they interrupt as Ctrl-C does, as in all commands. Outside of
    the main thread, or where the program handles a signal itself, nothing changes.

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

    ours = threading.current_thread() is threading.main_thread()
    taken = [n for n in _SIGNALS if ours and signal.getsignal(n) is signal.default_int_handler]
    for number in taken:
        signal.signal(number, on_interrupt)
    try:
        yield flag
    finally:
        for number in taken:
            signal.signal(number, signal.default_int_handler)
