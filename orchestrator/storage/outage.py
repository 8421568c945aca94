"""Waiting for a storage that is away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

OUTAGE_S = 600.0
"""So long a storage is waited for."""
LOOK_S = 5.0

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What a storage answers; it is asked again while it is away.

    Raises:
        Exception: what the storage raised last.
    """
    end = time.monotonic() + OUTAGE_S
    while True:
        try:
            return ask()
        except Exception as error:  # each storage has its own
            if time.monotonic() >= end:
                raise
            log.info("the storage is away: %s", error)
            time.sleep(LOOK_S)
