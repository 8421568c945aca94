"""Trials whose process does nothing any more: it neither reports nor renews the lease of its job.

Each process keeps the limit of silence itself (silence.py). One that the system has stopped, or
that hangs in its disk or its driver of a GPU, cannot do so: the sweep's driver ends it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from orchestrator.execution.failures import Cause, JobFailure
from orchestrator.storage.files import Files
from orchestrator.storage.lease_files import Pace, Watch
from orchestrator.storage.work import lease_of_job

log = logging.getLogger(__name__)


class FrozenTrials:
    """Finds trials that are frozen.

    Args:
        store: the storage, where trials hold the leases of their jobs.
        limit_s: seconds without a report from which on a trial's lease is looked at.
        pace: of the leases; None for the storage's.
    """

    def __init__(self, store: Files, limit_s: float, pace: Pace | None = None) -> None:
        self._store, self._limit_s, self._pace = store, limit_s, pace
        self._heard: dict[str, float] = {}
        """Trial id -> when its process started or reported."""
        self._watches: dict[str, Watch] = {}
        """Id of a silent trial -> what looks at its job's lease."""
        self._thread = threading.Thread()
        self.ids: set[str] = set()
        """Of the trials that are frozen."""

    def heard(self, trial_id: str) -> None:
        """Record that a trial's process started or reported."""
        self._heard[trial_id] = time.monotonic()
        self._watches.pop(trial_id, None)

    def forget(self, trial_id: str) -> None:
        """Record that a trial has ended."""
        self._heard.pop(trial_id, None)
        self._watches.pop(trial_id, None)
        self.ids.discard(trial_id)

    def look(self, jobs: Mapping[str, str]) -> None:
        """Look at the leases of silent trials, in a thread.

        Args:
            jobs: trial id -> key of its job, of trials that run.
        """
        now = time.monotonic()
        silent = {
            i: key for i, key in jobs.items() if now - self._heard.get(i, now) > self._limit_s
        }
        if silent and not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._look_at, args=(silent,), name="frozen trials", daemon=True
            )
            self._thread.start()

    def _look_at(self, silent: Mapping[str, str]) -> None:
        for trial_id, key in silent.items():
            new = Watch(self._store, lease_of_job(key), self._pace)
            watch = self._watches.setdefault(trial_id, new)
            try:
                watch.look()
            except Exception as error:  # each storage has its own; while it is away, nobody knows
                log.info("the lease of %s cannot be read: %s", key, error)
                self._watches.pop(trial_id, None)
                continue
            now = time.monotonic()
            has_reported = now - self._heard.get(trial_id, now) <= self._limit_s
            if watch.still_s > watch.pace.stale and not has_reported:
                self.ids.add(trial_id)

    def failure(self, trial_id: str) -> JobFailure | None:
        """Why the job of a frozen trial failed; None if the trial is not frozen."""
        if trial_id not in self.ids:
            return None
        seconds = time.monotonic() - self._heard[trial_id]
        text = f"its process showed no sign of life for {seconds:.0f} s and was ended"
        return JobFailure(Cause.SILENT, text)
