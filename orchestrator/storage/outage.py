"""Waiting for a storage: one that is away for a while, and one that shows new files late."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from orchestrator.storage.disk import StoreError

OUTAGE_S = 600.0
"""So long a storage is waited for."""
LOOK_S = 5.0
VISIBLE_S = 75.0
"""So long a shared disk may hide what another machine wrote: NFS keeps names for up to 60 s."""
VISIBLE_LOOK_S = 1.0

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What a storage answers; it is asked again while it is away.

    Raises:
        StoreError: something in the storage is damaged, which no waiting mends.
        Exception: what the storage raised last.
    """
    end = time.monotonic() + OUTAGE_S
    while True:
        try:
            return ask()
        except StoreError:
            raise
        except Exception as error:  # each storage has its own
            if time.monotonic() >= end:
                raise
            log.info("the storage is away: %s", error)
            time.sleep(LOOK_S)


def until_visible(ask: Callable[[], Answer]) -> Answer:
    """What a storage answers; it is asked again for `VISIBLE_S` while the answer is false.

    Args:
        ask: whether a file is there, or for its content, after another process has said that it
            wrote the file.
    """
    end = time.monotonic() + VISIBLE_S
    while not (answer := ask()) and time.monotonic() < end:
        time.sleep(VISIBLE_LOOK_S)
    return answer


def not_visible(names: Iterable[str], is_there: Callable[[str], bool]) -> list[str]:
    """The names that do not become visible, all together, within `VISIBLE_S`."""
    missing = list(names)

    def all_visible() -> bool:
        missing[:] = [name for name in missing if not is_there(name)]
        return not missing

    until_visible(all_visible)
    return missing
