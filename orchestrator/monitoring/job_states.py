"""The state of a sweep's jobs: what runs, what is done, what failed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import DATA, Job

TRAIN = "train"
"""The phase in which a job trains."""


@dataclass
class RunningJob:
    """A running job; times are seconds of `JobStates.clock`.

    Attributes:
        step, steps: done and in all, of the phase.
        first_step: the first step that was reported of the phase.
        trained: when its training was over; None before.
        metrics: of the latest step, while it trains.
        host: name of the machine that computes the phase; empty where several do.
    """

    began: float
    phase: str = "starting"
    step: float = 0
    steps: float = 0
    phase_began: float = 0.0
    first_step: float = 0
    trained: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    host: str = ""

    def progress(self, event: JobEvent, now: float) -> None:
        """Record a report."""
        if self.phase != event.phase:
            if self.phase == TRAIN and event.steps:  # else it waits, and trains again
                self.trained = now
            elif event.phase == TRAIN:
                self.trained = None
            self.phase, self.phase_began = event.phase, now
            self.first_step, self.host = event.step, ""
        self.step, self.steps = event.step, event.steps
        self.metrics = event.metrics or self.metrics
        self.host = event.host or self.host

    def speed(self, now: float) -> float | None:
        """Steps per second of the phase; None while it is not known."""
        elapsed = now - self.phase_began
        if self.step <= self.first_step or elapsed <= 0:
            return None
        return (self.step - self.first_step) / elapsed

    def left_in_phase(self, now: float) -> float | None:
        """Seconds until the end of the phase at its speed so far; None while it is not known."""
        speed = self.speed(now)
        return None if speed is None else (self.steps - self.step) / speed

    @property
    def loss(self) -> float | None:
        """The loss of the latest step; None before the first report of a training."""
        return self.metrics.get("loss")

    def text(self, now: float) -> str:
        """Phase, step, loss and time left in the phase, in a few words."""
        if not self.steps:
            return self.phase
        loss, left = self.loss, self.left_in_phase(now)
        parts = [f"{self.phase} {self.step:g}/{self.steps:g}"]
        parts += [] if loss is None else [f"loss {loss:.4g}"]
        parts += [] if left is None else [f"{clock_text(left)} left"]
        return ", ".join(parts)


@dataclass(frozen=True)
class FinishedJob:
    """How long a finished job took, in seconds.

    Attributes:
        seconds: from its start, or its last one.
        after_training: of these, those behind the end of its training.
        is_whole: no try before had done a part of it.
        beside_passes: the share of its time in which passes over data ran, too, 0 to 1.
    """

    seconds: float
    after_training: float
    is_whole: bool
    beside_passes: float


@dataclass
class JobStates:
    """The jobs of a sweep by key; callers come from several threads and hold `lock`.

    Attributes:
        lanes: how many jobs run at a time beside the passes over data.
        finished: of this driver's jobs, in the order in which they ended.
        failed: key -> reason, of jobs that failed for good or were not started for a reason.
        cancelled: keys of jobs that a person has cancelled.
        retried: key -> the reason of each failure after which the job was tried again.
        began: when the driver began.
        clock: seconds.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    lanes: int = 1
    finished: dict[str, FinishedJob] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    running: dict[str, RunningJob] = field(default_factory=dict)
    retried: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    _passes_ended: float = field(default=-math.inf, init=False)
    """When the last pass over data ended."""

    def __post_init__(self) -> None:
        self.began = self.clock()

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        """Record what there is to do."""
        with self.lock:
            self.jobs, self.lanes = dict(jobs), lanes

    def grow(self, jobs: Mapping[str, Job], reopened: Set[str]) -> None:
        """Record further jobs, or jobs in the place of finished ones, of which more is to do.

        Args:
            reopened: keys of cancelled jobs that are to be done again.
        """
        with self.lock:
            self.jobs = {**self.jobs, **jobs}
            self.cancelled -= reopened
            for key in self.finished.keys() & jobs.keys():
                del self.finished[key]

    @property
    def over(self) -> int:
        """How many jobs are done, have failed or are cancelled."""
        return len(self.finished) + len(self.failed) + len(self.cancelled)

    def record(self, event: JobEvent) -> None:
        """Record an event."""
        with self.lock:
            now = self.clock()
            if event.kind == "started":
                self.running[event.key] = RunningJob(now)
                self.cancelled.discard(event.key)
                return
            job = self.running.get(event.key)
            if event.kind == "progressed":
                if job is not None:
                    job.progress(event, now)
                return
            self.running.pop(event.key, None)
            if event.kind == "finished":
                self._finish(event.key, job, now)
            elif event.kind == "cancelled":
                self.cancelled.add(event.key)
            elif event.kind == "retried":
                self.retried.setdefault(event.key, []).append(event.reason)
            self.failed.update(dict.fromkeys(event.failed, event.reason))

    def _finish(self, key: str, job: RunningJob | None, now: float) -> None:
        began = now if job is None else job.began
        trained = job.trained if job is not None and job.trained is not None else now
        is_whole = job is not None and key not in self.retried
        beside = self.beside_passes(began, now)
        self.finished[key] = FinishedJob(now - began, now - trained, is_whole, beside)
        if self.jobs[key].kind in DATA:
            self._passes_ended = now

    def beside_passes(self, began: float, now: float) -> float:
        """The share of the time since a moment in which passes over data ran, 0 to 1."""
        passes_run = any(self.jobs[key].kind in DATA for key in self.running)
        ended = now if passes_run else self._passes_ended
        return max(0.0, ended - began) / (now - began) if now > began else 0.0

    @property
    def images_per_s(self) -> float:
        """Images per second of all trainings together, at their latest reports."""
        return sum(job.metrics.get("images_per_s", 0.0) for job in self._training())

    def _training(self) -> list[RunningJob]:
        return [job for job in self.running.values() if job.phase == TRAIN]


def withdrawal(event: JobEvent, states: JobStates) -> str:
    """A line about a cause that several jobs share, and the jobs that are not started for it."""
    labels = ", ".join(states.jobs[key].label for key in event.others)
    return f"STOP  {event.reason}; not started, as they would fail, too: {labels}"


def clock_text(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
