"""The points file of an unfinished sweep, which grows with every finished operating point.

    finished point --read in a thread--> rows --at most every 10 s--> points.parquet, points.csv

Of a large sweep the files are written less often, so that writing takes at most a fiftieth of the
time. The finished sweep's files replace these; only there the rows name their runs in MLflow.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import JsonObject, Store
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.points_file import point_rows, write_table
from search_spaces import OperatingPoint

EVERY_S: Final = 10.0
"""Seconds between two writes, at least."""
SHARE: Final = 0.02
"""Of the time that writing may take."""
LOOK_S: Final = 0.5
log = logging.getLogger(__name__)


class SweepLease(Protocol):
    """What a recorder looks at of a sweep's `Lease`."""

    @property
    def is_lost(self) -> bool:
        """Whether another process holds it by now, or may do so soon."""

    @property
    def is_taken(self) -> bool:
        """Whether another process holds it."""


class GrowingPoints:
    """Writes the points file again when points have finished; a thread reads and writes.

    Args:
        plan: of the sweep.
        store: the storage.
        name: the sweep's.
        complete: points that the storage holds already; nothing is written before all are read.
        measured: called in the thread; reads what was measured of a complete point.
        lease: of the sweep; whoever lost it writes nothing, and nothing while that is in doubt, as
            the driver may have been stopped.
        every_s: seconds between two writes, at least.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        name: str,
        complete: Iterable[OperatingPoint],
        measured: Callable[[OperatingPoint], Measured],
        lease: SweepLease,
        every_s: float = EVERY_S,
    ) -> None:
        self._plan, self._store, self._name = plan, store, name
        self._measured, self._lease, self._every_s = measured, lease, every_s
        self._rows: dict[str, list[JsonObject]] = {}
        self._complete = tuple(complete)
        self._has_new_rows = False
        self._next = -float("inf")
        self._queue: SimpleQueue[OperatingPoint] = SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="points file", daemon=True)
        self._thread.start()

    def add(self, point: OperatingPoint) -> None:
        """Add a point of which a job has finished; it is left out where parts of it are missing."""
        self._queue.put(point)

    def close(self) -> None:
        """Write no more: the files of the finished sweep are about to replace these."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        for point in self._complete:
            if self._over.is_set():
                return
            self._read(point)
        while not self._over.is_set():
            with contextlib.suppress(Empty):
                self._read(self._queue.get(timeout=LOOK_S))
            if self._has_new_rows and time.monotonic() >= self._next:
                self._write()

    def _read(self, point: OperatingPoint) -> None:
        try:
            if self._plan.is_complete(point):
                key = self._plan.key(point)
                self._rows[key] = point_rows(self._name, {key: self._measured(point)}, {})
                self._has_new_rows = True
        except Exception as error:  # each storage has its own; the finished file has the point
            log.warning("a point is left out of the growing points file: %s", error)

    def _write(self) -> None:
        if self._lease.is_lost:
            self._has_new_rows = not self._lease.is_taken
            return
        began = time.monotonic()
        order = {key: number for number, key in enumerate(self._plan.wanted)}
        keys = sorted(self._rows, key=lambda key: order.get(key, len(order)))
        try:
            rows = [row for key in keys for row in self._rows[key]]
            write_table(self._store, self._name, rows)
            self._has_new_rows = False
        except Exception as error:  # each storage has its own; it is tried again
            log.warning("the growing points file was not written: %s", error)
        now = time.monotonic()
        self._next = now + max(self._every_s, (now - began) / SHARE)
