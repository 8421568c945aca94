"""The view of a log: a line per event."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping

from orchestrator.monitoring.job_states import JobStates, clock_text, withdrawal
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import DATA, Job
from search_spaces.settings.secrets import printable

log = logging.getLogger(__name__)

_WORDS = {
    **{"started": "start", "retried": "again", "finished": "done ", "failed": "FAIL "},
    "cancelled": "cancelled",
}
RUNNING_EVERY_S = 60.0
"""Seconds between two lines about what runs, at least."""
MOST_RUNNING = 6
"""Jobs that such a line names."""


class LineView:
    """Prints a line per event, for logs and `ray job submit`, and every minute what runs.

    Args:
        states: of the jobs; an event is shown after they have recorded it.
        left: the time left.
    """

    def __init__(self, states: JobStates, left: TimeLeft) -> None:
        self._states, self._left = states, left
        self._running_shown = states.began
        # What the libraries print from now on goes to a log.
        self._stream = sys.stdout

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        """Print how many jobs there are, and how many run at once."""
        beside = any(job.kind in DATA for job in jobs.values())
        text = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} to do, {lanes} at a time"
        self.note(text + "; passes over data run beside them" * beside)

    def note(self, text: str) -> None:
        """Print a line; one that a full disk or a closed terminal does not take is left out.

        Raises:
            BrokenPipeError: whoever read the lines has ended.
        """
        with self._states.lock:
            line = f"[{clock_text(self._states.clock() - self._states.began)}] {printable(text)}"
            try:
                print(line, file=self._stream, flush=True)
            except BrokenPipeError:
                raise
            except OSError as error:
                log.warning("a line was not printed (%s): %s", error, line)

    def job_event(self, event: JobEvent) -> None:
        """Print it, with the reason of a failure or the seconds of a job; progress now and then."""
        states = self._states
        with states.lock:
            if event.kind == "progressed":
                self._show_running()
                return
            more = f": {event.reason}" if event.reason else ""
            if event.kind == "finished":
                more = f" in {states.finished[event.key].seconds:.1f} s{self._left.text()}"
            if event.kind == "withdrawn":
                self.note(withdrawal(event, states))
                return
            label = states.jobs[event.key].label
            self.note(f"{states.over}/{len(states.jobs)} {_WORDS[event.kind]} {label}{more}")

    def keep_up(self) -> None:
        """Print every minute what runs, also where all of it is stuck."""
        with self._states.lock, contextlib.suppress(BrokenPipeError):  # the next event meets it
            if self._states.running:
                self._show_running()

    def _show_running(self) -> None:
        states, now = self._states, self._states.clock()
        if now - self._running_shown < RUNNING_EVERY_S:
            return
        self._running_shown = now
        texts = [f"{states.jobs[key].label} {job.text(now)}" for key, job in states.running.items()]
        more = len(texts) - MOST_RUNNING
        texts = [*texts[:MOST_RUNNING], *([f"and {more} more"] if more > 0 else [])]
        self.note(
            f"{states.over}/{len(states.jobs)} running{self._left.text()}: {'; '.join(texts)}"
        )

    def close(self) -> None:
        """Do nothing."""
