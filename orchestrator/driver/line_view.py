"""The view of a log: a line per event."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from orchestrator.driver.job_states import JobStates, clock_text
from orchestrator.plan.jobs import Job


class LineView:
    """Prints a line per event, for logs and `ray job submit`.

    Args:
        stream: where to; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._states = JobStates()
        self._stream = stream or sys.stdout

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """Print how many jobs there are, and how many run at once."""
        self._states.jobs = dict(jobs)
        self.note(f"{len(jobs)} jobs to do, {lanes} at a time")

    def note(self, text: str) -> None:
        """Print a line."""
        with self._states.lock:
            seconds = time.monotonic() - self._states.began
            print(f"[{clock_text(seconds)}] {text}", file=self._stream, flush=True)

    def job_started(self, key: str) -> None:
        """Print it."""
        with self._states.lock:
            self._states.start(key)
        self._event("start", key)

    def job_progressed(self, key: str, phase: str, step: float, steps: float) -> None:
        """Print nothing: a log wants events."""
        with self._states.lock:
            self._states.progress(key, phase, step, steps)

    def job_retried(self, key: str, reason: str) -> None:
        """Print it with the reason."""
        self._event("again", key, f": {reason}")

    def job_finished(self, key: str) -> None:
        """Print it with the seconds that it took, and the time left."""
        with self._states.lock:
            seconds = self._states.finish(key)
            left = self._states.time_left()
        self._event("done ", key, f" in {seconds:.1f} s{left}")

    def job_failed(self, key: str, reason: str) -> None:
        """Print it with the reason."""
        with self._states.lock:
            self._states.fail(key, reason)
        self._event("FAIL ", key, f": {reason}")

    def close(self) -> None:
        """Do nothing."""

    def _event(self, event: str, key: str, more: str = "") -> None:
        states = self._states
        with states.lock:
            over = len(states.done) + len(states.failed)
            self.note(f"{over}/{len(states.jobs)} {event} {states.jobs[key].label}{more}")
