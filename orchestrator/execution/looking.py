"""A thread that looks at something outside again and again."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def looking(look: Callable[[], None], every_s: float, name: str) -> Iterator[threading.Thread]:
    """Call a function in a thread while the context lasts; an error of it waits for the next call.

    Args:
        every_s: seconds between two calls.
        name: of the thread, for the log.

    Yields:
        The thread, which ends behind the context, after its call.
    """
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                look()
            except Exception as error:  # whatever is asked, or does not answer
                log.info("%s: %s", name, error)
            is_over.wait(every_s)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        is_over.set()
