"""The state of a sweep's jobs as a view shows it: what runs, what is done, and the time left."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job

MIN_ELAPSED_S = 5.0
"""Before this the pace of a sweep is not known."""


@dataclass
class RunningJob:
    """A running job; times are of `time.monotonic`.

    Attributes:
        step, steps: done and in all, of the phase.
        first_step: the first step that was reported of the phase.
    """

    began: float
    phase: str = "starting"
    step: float = 0
    steps: float = 0
    phase_began: float = 0.0
    first_step: float = 0

    def progress(self, event: JobEvent) -> None:
        """Record a report."""
        if self.phase != event.phase:
            self.phase, self.phase_began = event.phase, time.monotonic()
            self.first_step = event.step
        self.step, self.steps = event.step, event.steps

    def speed(self, now: float) -> tuple[str, str]:
        """The speed of the phase (while training) and its time left, in words."""
        elapsed = now - self.phase_began
        if self.step <= self.first_step or elapsed <= 0 or self.phase == "starting":
            return "", ""
        speed = (self.step - self.first_step) / elapsed
        left = (self.steps - self.step) / speed
        unit = f"{speed:.1f} steps/s" if self.phase == "train" else ""
        return unit, f"{clock_text(left)} left"


@dataclass
class JobStates:
    """The jobs of a sweep by key; callers come from several threads and hold `lock`."""

    jobs: dict[str, Job] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    running: dict[str, RunningJob] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    first_job_began: float | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def record(self, event: JobEvent) -> float:
        """Record an event; returns the seconds that the job has run, 0 if it did not."""
        key, now = event.key, time.monotonic()
        job = self.running.get(key)
        if event.kind == "started":
            self.running[key] = RunningJob(now)
            self.first_job_began = self.first_job_began or now
        elif event.kind == "progressed":
            if job is not None:
                job.progress(event)
        else:
            self.running.pop(key, None)
            if event.kind == "finished":
                self.done.add(key)
            elif event.kind == "failed":
                self.failed.add(key)
            self.failed.update(event.others)
        return 0.0 if job is None else now - job.began

    def time_left(self) -> str:
        """The time left at the pace so far, in words; empty until a job is done.

        The pace is planned cost per second of the clock, however many jobs ran at a time.
        """
        if not self.done or self.first_job_began is None:
            return ""
        over = self.done | self.failed
        left = sum(job.cost for job in self.jobs.values() if job.key not in over)
        partly = sum(
            self.jobs[key].cost * min(1.0, job.step / job.steps)
            for key, job in self.running.items()
            if job.steps
        )
        spent = sum(self.jobs[key].cost for key in self.done) + partly
        elapsed = time.monotonic() - self.first_job_began
        if not spent or elapsed < MIN_ELAPSED_S:
            return ""
        return f"  about {clock_text((left - partly) * elapsed / spent)} left"


def withdrawal(event: JobEvent, states: JobStates) -> str:
    """A line about a cause that several jobs share, and the jobs that are not started for it."""
    labels = ", ".join(states.jobs[key].label for key in event.others)
    return f"STOP  {event.reason}; not started, as they would fail, too: {labels}"


def clock_text(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
