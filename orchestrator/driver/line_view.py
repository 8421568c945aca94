"""The view of a log: a line per event."""

from __future__ import annotations

import sys
import time

from orchestrator.driver.job_states import JobStates, clock_text, withdrawal
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job
from search_spaces.settings.secrets import printable

_WORDS = {"started": "start", "retried": "again", "finished": "done ", "failed": "FAIL "}


class LineView:
    """Prints a line per event, for logs and `ray job submit`."""

    def __init__(self) -> None:
        self._states = JobStates()
        # What the libraries print from now on goes to a log.
        self._stream = sys.stdout

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """Print how many jobs there are, and how many run at once."""
        self._states.jobs = dict(jobs)
        self.note(f"{len(jobs)} jobs to do, {lanes} at a time")

    def note(self, text: str) -> None:
        """Print a line."""
        with self._states.lock:
            seconds = time.monotonic() - self._states.began
            print(f"[{clock_text(seconds)}] {printable(text)}", file=self._stream, flush=True)

    def job_event(self, event: JobEvent) -> None:
        """Print it, with the reason of a failure or the seconds of a job; no progress."""
        states = self._states
        with states.lock:
            seconds = states.record(event)
            if event.kind == "progressed":
                return
            more = f": {event.reason}" if event.reason else ""
            if event.kind == "finished":
                more = f" in {seconds:.1f} s{states.time_left()}"
            if event.kind == "withdrawn":
                self.note(withdrawal(event, states))
                return
            over, label = len(states.done) + len(states.failed), states.jobs[event.key].label
            self.note(f"{over}/{len(states.jobs)} {_WORDS[event.kind]} {label}{more}")

    def close(self) -> None:
        """Do nothing."""
