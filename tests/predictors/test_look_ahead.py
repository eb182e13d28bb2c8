import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from qsam2_deploy.predictors.look_ahead import look_ahead


def _names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("look-ahead")}


def test_items_and_results_come_in_order():
    pairs = [(item, made.result()) for item, made in look_ahead(range(50), lambda x: x * x)]
    assert pairs == [(x, x * x) for x in range(50)]
    assert list(look_ahead([], str)) == []
    assert not _names()


def test_the_next_item_is_worked_on_meanwhile_and_no_more():
    taken: list[int] = []
    worked = [threading.Event() for _ in range(8)]

    def source() -> Iterator[int]:
        for index in range(8):
            taken.append(index)
            yield index

    for index, made in look_ahead(source(), lambda i: worked[i].set()):
        made.result()
        if index < 7:
            # Nothing asks for it: the other thread does it by itself.
            assert worked[index + 1].wait(10)
            assert taken == list(range(index + 2))
            assert not any(event.is_set() for event in worked[index + 2 :])


def test_a_source_may_use_one_buffer_for_all():
    buffer = [0]

    def source() -> Iterator[list[int]]:
        for index in range(100):
            buffer[0] = index
            yield buffer

    found = [made.result() for _, made in look_ahead(source(), lambda x: x[0])]
    assert found == list(range(100))


def test_an_error_of_the_source_comes_where_its_item_would():
    def source() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("unplugged")

    seen = []
    with pytest.raises(OSError, match="unplugged"):
        seen.extend(item for item, _ in look_ahead(source(), str))
    assert not _names()
    assert seen == [0, 1]


def test_an_error_of_the_work_comes_with_its_item_alone():
    def work(item: int) -> int:
        return 1 // (item - 2)

    found = []
    for item, made in look_ahead(range(4), work):
        error = made.exception()
        found.append((item, type(error).__name__ if error else made.result()))
    assert found == [(0, -1), (1, -1), (2, "ZeroDivisionError"), (3, 1)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_leaving_early_waits_for_the_thread(error):
    running, done = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item == 1:
            running.set()
            done.wait(0.2)
            done.set()

    def leave() -> None:
        with closing(look_ahead(range(9), work)) as pairs:
            next(pairs)
            assert running.wait(10)
            raise error

    with pytest.raises(error):
        leave()
    assert done.is_set()
    assert not _names()
