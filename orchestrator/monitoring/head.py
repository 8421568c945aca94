"""Whether the head of the cluster that a driver has joined still answers.

Without its head no job starts or ends, and Ray's own calls wait for it without a word, also in the
driver's main thread. So a thread asks the head, in a process of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from orchestrator.execution.cluster import NoClusterError, gives_its_identity
from orchestrator.execution.looking import looking

LOOK_S = 30.0
"""Seconds between two questions."""
SILENT_S = 120.0
"""Seconds without an answer after which the head is lost: a network may be away for a minute."""


@contextlib.contextmanager
def head_watched(
    address: str | None,
    lost: Callable[[str], None],
) -> Iterator[None]:
    """Watch the head while the context lasts.

    Args:
        address: of the head, HOST:PORT; None where Ray was started with the driver and ends with
            it: nothing is watched.
        lost: called in a thread with a line when the head has not answered for `SILENT_S` seconds.
    """
    if address is None:
        yield
        return
    silent_since: float | None = None

    def look() -> None:
        nonlocal silent_since
        began = time.monotonic()
        try:
            gives_its_identity(address)
            silent_since = None
        except NoClusterError:
            silent_since = silent_since or began
            if time.monotonic() - silent_since > SILENT_S:
                lost(
                    f"the head of the Ray cluster at {address} has not answered for {SILENT_S:g} s"
                )

    with looking(look, LOOK_S, "head"):
        yield
