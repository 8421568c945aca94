"""Operating points on their way from the storage to MLflow, while a sweep runs.

storage --measured--> cache --LogQueue, in a thread--> MLflow's child runs, live figures
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from orchestrator.driver.request import Request
from orchestrator.plan.jobs import Plan
from orchestrator.tracking.live_figures import LiveFigures
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.measured import Measured, read_measured
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import open_tracker
from orchestrator.tracking.points_file import MissingPoint
from search_spaces import OperatingPoint, operating_points


class PointLog:
    """Logs each operating point as soon as it is complete; nothing waits for the server.

    Args:
        request: of the sweep.
        plan: of the sweep.
        note: called with a line for a person when the server is away.
    """

    def __init__(self, request: Request, plan: Plan, note: Callable[[str], None]) -> None:
        self._plan, self._store = plan, request.store
        self._measured: dict[str, Measured] = {}
        self._lock = threading.Lock()
        self._figures = LiveFigures(plan, request.name, note)
        self._queue = LogQueue(
            lambda: open_tracker(request.store, request.tracking_uri, request.name),
            note,
            self._while_idle,
        )

    def _while_idle(self, tracker: Tracker) -> None:
        if self._plan.jobs:
            self._figures.refresh(tracker)
        if tracker.copy is not None:
            tracker.copy.save_if_due()

    def measured(self, point: OperatingPoint) -> Measured:
        """What was measured of a complete point; read from the storage once, by any thread."""
        key = self._plan.key(point)
        with self._lock:
            if key not in self._measured:
                self._measured[key] = read_measured(self._plan, self._store, point)
            return self._measured[key]

    def add(self, point: OperatingPoint) -> None:
        """Log a complete point."""

        def log(tracker: Tracker) -> None:
            tracker.log_point(self.measured(point))
            self._figures.add(self.measured(point))

        self._queue.put(log)

    def add_failed(self, point: OperatingPoint, reason: str) -> None:
        """Show a failed point in the live figures."""
        self._queue.put(lambda tracker: self._figures.add_failed(point, reason))

    @property
    def error(self) -> Exception | None:
        """The first error of this program while it logged."""
        return self._queue.error

    def close(self, missing: Mapping[str, MissingPoint]) -> Tracker | None:
        """Log what is left and the missing points; None if the server is away.

        Args:
            missing: by key of the point.
        """

        def log(tracker: Tracker) -> None:
            for key, gone in missing.items():
                tracker.log_missing(key, gone.point, gone.reason)
            tracker.mark_stale({self._plan.key(p) for p in operating_points(self._plan.space)})

        self._queue.put(log)
        self._figures.stop()
        return self._queue.close()
