"""What a person sees while a sweep runs: one calm picture, or a line per event in a log."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from orchestrator.plan.jobs import WAVES, Job

if TYPE_CHECKING:
    from rich.console import Group


STARTING = "starting Ray"
"""A note that is over as soon as there is a plan."""


@dataclass
class _Running:
    began: float
    phase: str = "starting"
    step: float = 0
    steps: float = 0
    phase_began: float = 0.0
    first_step: float = 0


@dataclass
class _State:
    """What both views know; callers come from several threads."""

    jobs: dict[str, Job] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, _Running] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    work_began: float | None = None
    """When the first job started."""
    lock: threading.RLock = field(default_factory=threading.RLock)


class View(Protocol):
    """Listens to a sweep."""

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """The jobs to come, and how many run at once."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def started(self, key: str) -> None:
        """A job runs."""
        ...

    def progress(self, key: str, phase: str, step: float, steps: float) -> None:
        """A job moved."""
        ...

    def retrying(self, key: str, reason: str) -> None:
        """A job failed and is tried again."""
        ...

    def finished(self, key: str) -> None:
        """A job is done."""
        ...

    def failed(self, key: str, reason: str) -> None:
        """A job failed for good."""
        ...

    def close(self) -> None:
        """The sweep is over, or was stopped."""
        ...


class Lines:
    """A line per event, for logs and `ray job submit`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._state = _State()
        self._stream = stream or sys.stdout

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """See `View`."""
        self._state.jobs = dict(jobs)
        self.note(f"{len(jobs)} jobs to do, {lanes} at a time")

    def note(self, text: str) -> None:
        """See `View`."""
        with self._state.lock:
            seconds = time.monotonic() - self._state.began
            print(f"[{_clock(seconds)}] {text}", file=self._stream, flush=True)

    def started(self, key: str) -> None:
        """See `View`."""
        with self._state.lock:
            _started(self._state, key)
        self._event("start", key)

    def progress(self, key: str, phase: str, step: float, steps: float) -> None:
        """See `View`; says nothing: a log wants events."""
        with self._state.lock:
            _progress(self._state, key, phase, step, steps)

    def retrying(self, key: str, reason: str) -> None:
        """See `View`."""
        self._event("again", key, f": {reason}")

    def finished(self, key: str) -> None:
        """See `View`."""
        with self._state.lock:
            seconds = _finished(self._state, key)
        self._event("done ", key, f" in {seconds:.1f} s{_left_text(self._state)}")

    def failed(self, key: str, reason: str) -> None:
        """See `View`."""
        with self._state.lock:
            _failed(self._state, key, reason)
        self._event("FAIL ", key, f": {reason}")

    def close(self) -> None:
        """See `View`."""

    def _event(self, what: str, key: str, more: str = "") -> None:
        state = self._state
        with state.lock:
            done = len(state.done) + len(state.failed)
            self.note(f"{done}/{len(state.jobs)} {what} {state.jobs[key].label}{more}")


class Live:
    """One picture on a terminal, redrawn in place."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._name = name
        self._state = _State()
        self._console = Console(file=sys.stdout)
        self._notes: list[str] = []
        self._live = RichLive(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=2,
            transient=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def plan(self, jobs: dict[str, Job], lanes: int) -> None:
        """See `View`."""
        with self._state.lock:
            self._state.jobs = dict(jobs)
            self._notes = [note for note in self._notes if note != STARTING]

    def note(self, text: str) -> None:
        """See `View`."""
        with self._state.lock:
            self._notes = [*self._notes[-3:], text]

    def started(self, key: str) -> None:
        """See `View`."""
        with self._state.lock:
            _started(self._state, key)

    def progress(self, key: str, phase: str, step: float, steps: float) -> None:
        """See `View`."""
        with self._state.lock:
            _progress(self._state, key, phase, step, steps)

    def retrying(self, key: str, reason: str) -> None:
        """See `View`."""
        with self._state.lock:
            self._state.running.pop(key, None)
            self.note(f"again: {self._state.jobs[key].label}: {reason}")

    def finished(self, key: str) -> None:
        """See `View`."""
        with self._state.lock:
            _finished(self._state, key)

    def failed(self, key: str, reason: str) -> None:
        """See `View`."""
        with self._state.lock:
            _failed(self._state, key, reason)
            self.note(f"failed: {self._state.jobs[key].label}: {reason}")

    def close(self) -> None:
        """See `View`."""
        self._live.stop()

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._state.lock:
            state = self._state
            now = time.monotonic()
            done, total = len(state.done), len(state.jobs)
            jobs = f"{done}/{total} jobs" if total else "starting"
            head = Text(f"{self._name}  {jobs}  {_clock(now - state.began)}", "bold")
            head.append(_left_text(state), "default")
            if state.failed:
                head.append(f"  {len(state.failed)} failed", "red")
            waves = Text()
            for number, name in enumerate(WAVES):
                wave = [job.key for job in state.jobs.values() if job.wave == number]
                if wave:
                    over = sum(key in state.done for key in wave)
                    style = "green" if over == len(wave) else "dim" if not over else "default"
                    waves.append(f"{name} {over}/{len(wave)}   ", style)
            table = Table.grid(padding=(0, 2))
            for key, run in state.running.items():
                table.add_row(
                    state.jobs[key].label,
                    run.phase,
                    ProgressBar(total=run.steps or 1, completed=run.step, width=24),
                    *_speed(run, now),
                )
            notes = [
                Text(note, "yellow", no_wrap=True, overflow="ellipsis") for note in self._notes
            ]
            return Group(head, waves, table, *notes)


def open_view(name: str, verbose: bool) -> Lines | Live:
    """The view that suits where the output goes; `verbose` never draws over log lines."""
    if sys.stdout.isatty() and not verbose:
        return Live(name)
    return Lines()


@contextlib.contextmanager
def libraries_to(log: Path) -> Iterator[None]:
    """Send to a file what is printed meanwhile, past Python too (Ray's C++ and its processes do).

    A view that was opened before still writes to the terminal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    with log.open("a", buffering=1, encoding="utf-8") as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _progress(state: _State, key: str, phase: str, step: float, steps: float) -> None:
    run = state.running.get(key)
    if run is None:
        return
    if run.phase != phase:
        run.phase, run.phase_began, run.first_step = phase, time.monotonic(), step
    run.step, run.steps = step, steps


def _started(state: _State, key: str) -> None:
    now = time.monotonic()
    state.running[key] = _Running(now)
    state.work_began = state.work_began or now


def _finished(state: _State, key: str) -> float:
    run = state.running.pop(key, None)
    state.done.add(key)
    return 0.0 if run is None else time.monotonic() - run.began


def _failed(state: _State, key: str, reason: str) -> None:
    state.running.pop(key, None)
    state.failed[key] = reason


def _speed(run: _Running, now: float) -> tuple[str, str]:
    elapsed = now - run.phase_began
    if run.step <= run.first_step or elapsed <= 0 or run.phase == "starting":
        return "", ""
    speed = (run.step - run.first_step) / elapsed
    left = (run.steps - run.step) / speed
    unit = f"{speed:.1f} steps/s" if run.phase == "train" else ""
    return unit, f"{_clock(left)} left"


def _left_text(state: _State) -> str:
    """Time left at the pace so far, as soon as a job is done.

    The pace is planned cost per second of the clock, whatever ran beside each other meanwhile.
    """
    if not state.done or state.work_began is None:
        return ""
    over = state.done | set(state.failed)
    left = sum(job.cost for job in state.jobs.values() if job.key not in over)
    partly = sum(
        state.jobs[key].cost * min(1.0, run.step / run.steps)
        for key, run in state.running.items()
        if run.steps
    )
    gone = sum(state.jobs[key].cost for key in state.done) + partly
    elapsed = time.monotonic() - state.work_began
    if not gone or elapsed < 5:
        return ""
    return f"  about {_clock((left - partly) * elapsed / gone)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


__all__ = ["Lines", "Live", "View", "libraries_to", "open_view"]
