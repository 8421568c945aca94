"""Reading off the training thread: the next items in one thread, their parts in several.

consumer <-- AHEAD items -- one thread: item after item -- reading_threads(): shards, images
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar, cast

import torch

T = TypeVar("T")
AHEAD: Final = 3
"""Items that are ready before they are needed."""
_END: Final = object()


@cache
def reading_threads() -> ThreadPoolExecutor:
    """The threads that read shards and decode images, as many as torch computes with.

    They live as long as the process. Tasks in them must not wait for one another.
    """
    return ThreadPoolExecutor(torch.get_num_threads(), "reading")


def read_ahead(items: Iterable[T], ahead: int = AHEAD) -> Generator[T]:
    """Yield the items in their order, computed in a thread that is `ahead` items in front.

    An exception of the items is raised here when its turn comes. Close the generator (as
    `contextlib.closing` does): the thread then ends with the item that it computes.

    Args:
        items: iterated over in that thread alone.
        ahead: items that are kept, 1 or more, besides the item in use.
    """
    iterator = iter(items)
    reader = ThreadPoolExecutor(1, "read_ahead")
    try:
        pending: deque[Future[object]] = deque()
        while True:
            while len(pending) < ahead:
                pending.append(reader.submit(next, iterator, _END))
            item = pending.popleft().result()
            if item is _END:
                return
            pending.append(reader.submit(next, iterator, _END))
            yield cast(T, item)
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
