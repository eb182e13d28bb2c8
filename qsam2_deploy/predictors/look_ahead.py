"""Working on the next item while the caller is busy with the current one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_END: Any = object()


def look_ahead(
    items: Iterable[Item], work: Callable[[Item], Made]
) -> Generator[tuple[Item, Future[Made]], None, None]:
    """Iterate over ``items``; take the next one, and work on it, in one other thread.

    The thread is one item ahead, so memory is that of two items. It takes an item only after the
    work on the one before is done, so a source may use one buffer for all of its items if ``work``
    keeps nothing of it. Items and results come in the order of a plain loop, and so do errors:
    one of the source is raised where its item would come, one of ``work`` by its future.

    Leaving the loop early, by an error or Ctrl-C too, waits for the thread, which ends after what
    it is at. Close the iterator (``contextlib.closing``) to leave it at a certain time.

    Args:
        items: is iterated over in the other thread.
        work: is called in the other thread.

    Yields:
        Each item, and the future of ``work(item)``.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="look-ahead")

    def submit() -> tuple[Future[Item], Future[Made]]:
        item = pool.submit(next, source, _END)
        return item, pool.submit(lambda: work(item.result()))

    try:
        item, made = submit()
        while (value := item.result()) is not _END:
            upcoming = submit()
            yield value, made
            item, made = upcoming
    finally:
        pool.shutdown(cancel_futures=True)
