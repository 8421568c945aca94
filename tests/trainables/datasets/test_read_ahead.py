"""Reading ahead: the same items in the same order, errors in their turn, no thread left."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from trainables.datasets.read_ahead import AHEAD, read_ahead


class Broken(Exception):  # noqa: N818 - a test's
    pass


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("read_ahead")]


def test_items_come_in_order_from_one_other_thread() -> None:
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(items())) == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(read_ahead([])) == []
    assert readers() == []


def test_no_more_than_so_many_items_are_ahead() -> None:
    made: list[int] = []
    gate = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            gate.release()
            yield number

    with closing(read_ahead(items())) as reader:
        for number in range(10):
            assert next(reader) == number
            for _ in range(AHEAD + 1 if number == 0 else 1):
                gate.acquire(timeout=60)
            # The item in use and those ahead of it have been made, and none besides.
            assert made == list(range(number + AHEAD + 1))


def test_an_error_is_raised_in_its_turn_and_ends_the_reader() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise Broken("at the third")

    reader = read_ahead(items())
    assert [next(reader), next(reader)] == [0, 1]
    with pytest.raises(Broken, match="at the third"):
        next(reader)
    assert readers() == []


def test_the_reader_ends_with_a_consumer_that_raises() -> None:
    def consume() -> None:
        with closing(read_ahead(iter(range(10**9)))) as reader:
            assert next(reader) == 0
            assert len(readers()) == 1
            raise Broken

    with pytest.raises(Broken):
        consume()
    assert readers() == []
