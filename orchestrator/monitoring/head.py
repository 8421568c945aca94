"""Whether the head of a driver's cluster still lives.

Without its head no job starts or ends, and Ray's own calls wait for it without a word, also in the
driver's main thread. So a thread asks the head of a cluster that was joined, in a process of its
own. Where Ray was started with the driver, it looks at Ray's processes: without one of them Ray
ends the driver, without a word as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import psutil

from orchestrator.execution.cluster import NoClusterError, gives_its_identity
from orchestrator.execution.looking import looking

LOOK_S = 30.0
"""Seconds between two questions."""
PROCESSES_LOOK_S = 1.0
"""Seconds between two looks at Ray's processes on this machine."""
PROCESSES: Final = ("gcs_server", "raylet")
SILENT_S = 120.0
"""Seconds without an answer after which the head is lost: a network may be away for a minute. It is
seen when a question ends, of which each may take some 40 s: 216 s after the head was lost at most.
"""


@contextlib.contextmanager
def head_watched(
    address: str | None,
    lost: Callable[[str], None],
) -> Iterator[None]:
    """Watch the head while the context lasts.

    Args:
        address: of the head, HOST:PORT; None where Ray was started with the driver.
        lost: called in a thread with a line when the head has not answered for over `SILENT_S`
            seconds, or a process of a Ray that was started with the driver has died.
    """
    if address is None:
        with looking(_look_at_processes(lost), PROCESSES_LOOK_S, "Ray's processes"):
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
            silent_s = time.monotonic() - silent_since
            if silent_s > SILENT_S:
                lost(
                    f"the head of the Ray cluster at {address} has not answered for {silent_s:.0f} "
                    "s: start a cluster again"
                )

    with looking(look, LOOK_S, "head"):
        yield


def _look_at_processes(lost: Callable[[str], None]) -> Callable[[], None]:
    """What looks at the processes of the Ray that this process has started.

    Args:
        lost: called with a line when one of them has died.
    """
    names = {child: child.name() for child in psutil.Process().children()}
    processes = {child: name for child, name in names.items() if name in PROCESSES}

    def look() -> None:
        for process, name in processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                lost(f"Ray's process {name} ({process.pid}) has died (killed, or out of memory)")

    return look
