"""A lock file, which one process at a time can hold."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[str]]:
    """Hold a lock file; the kernel releases it when the holder dies, however it dies.

    Raises:
        BlockingIOError: another process holds it and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file
