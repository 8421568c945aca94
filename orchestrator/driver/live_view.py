"""The view of a terminal: one picture of the sweep, redrawn in place."""

from __future__ import annotations

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.driver.job_states import JobStates, clock_text, withdrawal
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import WAVES, Job

STARTING = "starting Ray"
"""A note that is removed as soon as there is a plan."""
MAX_NOTES = 4


class LiveView:
    """Draws the waves, the running jobs and the latest notes.

    Args:
        name: the sweep's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._states = JobStates()
        self._notes: list[str] = []
        self._live = Live(
            console=Console(file=sys.stdout),
            get_renderable=self._draw,
            refresh_per_second=2,
            transient=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """Show the jobs by waves."""
        with self._states.lock:
            self._states.jobs = dict(jobs)
            self._notes = [note for note in self._notes if note != STARTING]

    def note(self, text: str) -> None:
        """Show a line below the picture."""
        with self._states.lock:
            self._notes = [*self._notes, text][-MAX_NOTES:]

    def job_event(self, event: JobEvent) -> None:
        """Move, add or remove the job's bar, and note the reason of a failure."""
        with self._states.lock:
            self._states.record(event)
            if event.kind == "withdrawn":
                self.note(withdrawal(event, self._states))
            elif event.reason:
                word = "again" if event.kind == "retried" else event.kind
                self.note(f"{word}: {self._states.jobs[event.key].label}: {event.reason}")

    def close(self) -> None:
        """Draw the last picture and leave it on the terminal."""
        self._live.stop()

    def _draw(self) -> Group:
        with self._states.lock:
            now = time.monotonic()
            notes = [
                Text(note, "yellow", no_wrap=True, overflow="ellipsis") for note in self._notes
            ]
            return Group(self._head(now), self._waves(), self._bars(now), *notes)

    def _head(self, now: float) -> Text:
        states = self._states
        total = len(states.jobs)
        jobs = f"{len(states.done)}/{total} jobs" if total else "starting"
        head = Text(f"{self._name}  {jobs}  {clock_text(now - states.began)}", "bold")
        head.append(states.time_left(), "default")
        if states.failed:
            head.append(f"  {len(states.failed)} failed", "red")
        return head

    def _waves(self) -> Text:
        waves = Text()
        for number, name in enumerate(WAVES):
            keys = [job.key for job in self._states.jobs.values() if job.wave == number]
            if keys:
                done = sum(key in self._states.done for key in keys)
                style = "green" if done == len(keys) else "default" if done else "dim"
                waves.append(f"{name} {done}/{len(keys)}   ", style)
        return waves

    def _bars(self, now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for key, job in self._states.running.items():
            table.add_row(
                self._states.jobs[key].label,
                job.phase,
                ProgressBar(total=job.steps or 1, completed=job.step, width=24),
                *job.speed(now),
            )
        return table
