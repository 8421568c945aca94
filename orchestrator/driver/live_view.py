"""The view of a terminal: one picture of the sweep, redrawn in place."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.monitoring.job_states import TRAIN, JobStates, RunningJob, clock_text, withdrawal
from orchestrator.monitoring.monitor import STARTING
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import WAVES, Job
from search_spaces.settings.secrets import printable

MAX_NOTES = 4


class LiveView:
    """Draws the waves, the running jobs and the latest notes.

    Args:
        name: the sweep's.
        states: of the jobs; an event is shown after they have recorded it.
        left: the time left.
    """

    def __init__(self, name: str, states: JobStates, left: TimeLeft) -> None:
        self._name, self._states, self._left = name, states, left
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

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        """Show the jobs by waves."""
        with self._states.lock:
            self._notes = [note for note in self._notes if note != STARTING]

    def note(self, text: str) -> None:
        """Show a line below the picture."""
        with self._states.lock:
            self._notes = [*self._notes, printable(text)][-MAX_NOTES:]

    def job_event(self, event: JobEvent) -> None:
        """Move, add or remove the job's bar, and note the reason of a failure."""
        with self._states.lock:
            if event.kind == "withdrawn":
                self.note(withdrawal(event, self._states))
            elif event.kind == "cancelled":
                self.note(f"cancelled: {self._states.jobs[event.key].label}")
            elif event.reason:
                word = "again" if event.kind == "retried" else event.kind
                self.note(f"{word}: {self._states.jobs[event.key].label}: {event.reason}")

    def keep_up(self) -> None:
        """Do nothing: the picture is drawn all the time."""

    def close(self) -> None:
        """Draw the last picture and leave it on the terminal."""
        self._live.stop()

    def _draw(self) -> Group:
        with self._states.lock:
            now = self._states.clock()
            notes = [
                Text(note, "yellow", no_wrap=True, overflow="ellipsis") for note in self._notes
            ]
            return Group(self._head(now), self._waves(), self._bars(now), *notes)

    def _head(self, now: float) -> Text:
        states = self._states
        total = len(states.jobs)
        jobs = f"{len(states.finished)}/{total} jobs" if total else "starting"
        head = Text(f"{self._name}  {jobs}  {clock_text(now - states.began)}", "bold")
        head.append(self._left.text(), "default")
        if states.failed:
            head.append(f"  {len(states.failed)} failed", "red")
        if states.cancelled:
            head.append(f"  {len(states.cancelled)} cancelled", "yellow")
        return head

    def _waves(self) -> Text:
        waves = Text()
        for number, name in enumerate(WAVES):
            keys = [job.key for job in self._states.jobs.values() if job.wave == number]
            if keys:
                done = sum(key in self._states.finished for key in keys)
                style = "green" if done == len(keys) else "default" if done else "dim"
                waves.append(f"{name} {done}/{len(keys)}   ", style)
        return waves

    def _bars(self, now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for key, job in self._states.running.items():
            table.add_row(
                Text(printable(self._states.jobs[key].label)),
                Text(printable(job.phase)),
                ProgressBar(total=job.steps or 1, completed=job.step, width=24),
                *_speed(job, now),
                "" if job.loss is None else f"loss {job.loss:.4g}",
            )
        return table


def _speed(job: RunningJob, now: float) -> tuple[str, str]:
    """The speed of the phase (while training) and its time left, in words."""
    speed, left = job.speed(now), job.left_in_phase(now)
    if speed is None or left is None or not job.steps:
        return "", ""
    return f"{speed:.1f} steps/s" if job.phase == TRAIN else "", f"{clock_text(left)} left"
