"""What the driver knows of its sweep, on its ways out.

events of jobs --> JobStates --+--> view on the terminal, at once
                               +--thread--> status file, every 5 s (10 s on a remote storage)
                               +--thread--> gauges among Ray's metrics
the end, a need of a person ---+--thread--> webhook or command
"""

from __future__ import annotations

import contextlib
import logging
import os
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict
from types import TracebackType
from typing import Final

from orchestrator.execution.cluster import NoClusterError
from orchestrator.execution.environment import line_of
from orchestrator.monitoring.gauges import Gauges, gauge_values
from orchestrator.monitoring.job_states import JobStates, clock_text, withdrawal
from orchestrator.monitoring.notify import Notifier
from orchestrator.monitoring.state_file import (
    SCHEMA,
    SweepState,
    cancelled_points,
    count_jobs,
    count_points,
    failed_jobs,
    read_state,
    retried_jobs,
    running_jobs,
    write_state,
)
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.monitoring.viewer import Viewer
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import Lease, LeaseLapsedError, LeaseLostError
from orchestrator.storage.process import Process
from orchestrator.storage.store import Store
from search_spaces.settings.secrets import without_secrets

_INCOMPLETE: Final = 1
"""Exit code of a sweep that is not complete."""
END_S: Final = 60.0
"""How long the end of a driver without its head may take."""
STARTING: Final = "starting Ray"
"""A note that is removed as soon as there is a plan."""
TICK_S: Final = 1.0
WRITE_EVERY_S: Final = 5.0
WRITE_EVERY_REMOTE_S: Final = 10.0
AWAY_S: Final = 120.0
"""So long the storage takes no status file, before a person is told."""
MOST_NOTES: Final = 8
MOST_LETTERS: Final = 2000
"""Of a notification's text: a shell takes no more than 128 KiB, chats take less."""
log = logging.getLogger(__name__)


class Monitor:
    """Keeps the state of a sweep and shows it everywhere, from start to end of its context.

    Args:
        plan: of the sweep.
        store: the storage.
        name: the sweep's.
        command: that continues the sweep, without secrets.
        view: for the person at the terminal.
        states: of the jobs, which the view reads, too.
        left: the time left, likewise.
        lease: of the sweep; whoever lost it writes nothing.
        notify: of `--notify`; None for nobody.
        tick_s: seconds between two looks of the thread.

    Attributes:
        command: as above; another one once a larger space was added.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        name: str,
        command: str,
        view: Viewer,
        states: JobStates,
        left: TimeLeft,
        lease: Lease,
        notify: str | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self._plan, self._store, self._name, self.command = plan, store, name, command
        self._view, self._states, self._left, self._lease = view, states, left, lease
        self._notifier = Notifier(notify, self.note)
        self._tick_s = tick_s
        self._write_every_s = WRITE_EVERY_REMOTE_S if store.remote else WRITE_EVERY_S
        self._notes: deque[str] = deque(maxlen=MOST_NOTES)
        self._asked: set[str] = set()
        self._gpus_in_use: Callable[[], float] | None = None
        self._gpu_hours = self._earlier_gpu_hours()
        self._gauges: Gauges | None = None
        self._end: str | None = None
        self._reason = ""
        self._written = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="monitor", daemon=True)

    # Called by the driver

    def __enter__(self) -> Monitor:
        self.write_status()
        self._thread.start()
        return self

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        """Show what there is to do, and how much of it at a time."""
        self._states.plan(jobs, lanes)
        with contextlib.suppress(ValueError):
            self._notes.remove(STARTING)
        self._view.plan(jobs, lanes)

    def grow(self, jobs: Mapping[str, Job], reopened: Set[str], command: str) -> None:
        """Count further jobs, whose points the plan has by now.

        Args:
            reopened: keys of cancelled jobs that are to be done again.
            command: that continues the larger sweep, without secrets.
        """
        self._states.grow(jobs, reopened)
        self.command = command

    def note(self, text: str) -> None:
        """Show a line."""
        self._notes.append(without_secrets(text))
        self._view.note(text)

    def job_event(self, event: JobEvent) -> None:
        """Record and show an event; tell a person of a cause that stops several jobs."""
        self._states.record(event)
        self._view.job_event(event)
        if event.kind == "withdrawn":
            self.need_person("shared_cause", withdrawal(event, self._states))

    def use_ray(self, gpus_in_use: Callable[[], float]) -> None:
        """Count GPU-hours and set gauges from now on, while Ray runs.

        Args:
            gpus_in_use: called every second.
        """
        self._gauges = Gauges(self._name)
        self._gpus_in_use = gpus_in_use

    def leave_ray(self) -> None:
        """Set the gauges a last time, and count no more."""
        self._set_gauges()
        self._gauges = self._gpus_in_use = None

    def end_without_head(self, reason: str) -> None:
        """End this process, whose main thread may wait in Ray for ever; what is finished is stored.

        Args:
            reason: a line.
        """
        error = NoClusterError(f"{reason}; the same command goes on")
        # The storage may hang as well, such as one of the machine that was lost.
        limit = threading.Timer(END_S, os._exit, (_INCOMPLETE,))
        limit.daemon = True
        limit.start()
        self.note(f"{error}:\n  {self.command}")
        self.leave_ray()
        self.__exit__(type(error), error, None)
        self._lease.release()
        os._exit(_INCOMPLETE)

    def need_person(self, event: str, text: str) -> None:
        """Tell a person that the sweep needs them; of each kind of event, once.

        Args:
            event: `shared_cause`, `storage_away` or `cluster_too_small`.
        """
        if event not in self._asked:
            self._asked.add(event)
            self._notify(event, text)

    def finish(self, missing: int, reason: str = "") -> None:
        """Record that the sweep came to its end.

        Args:
            missing: how many wanted points are not complete.
            reason: what else is not complete, in short.
        """
        self._end = "incomplete" if missing or reason else "complete"
        self._reason = without_secrets(reason)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()  # a write that a storage takes late would hide the end
        if isinstance(error, LeaseLostError) and not isinstance(error, LeaseLapsedError):
            return  # another driver's state stands in the storage
        if isinstance(error, KeyboardInterrupt):
            self._end, self._reason = "stopped", "stopped by a signal"
        elif error is not None:
            self._end, self._reason = "error", without_secrets(line_of(error))
        self.write_status()
        assert self._end is not None, "`finish` was not called"
        self._notify(self._end, self._ending())
        notes = list(self._notes)
        self._notifier.close()
        if notes != list(self._notes):  # it was not sent, which the status says as well
            self.write_status()

    # The thread

    def _keep(self) -> None:
        last = time.monotonic()
        due = last + self._write_every_s
        while not self._over.wait(self._tick_s):
            now = time.monotonic()
            gpus_in_use = self._gpus_in_use
            if gpus_in_use is not None:
                self._gpu_hours += gpus_in_use() * (now - last) / 3600.0
            last = now
            self._view.keep_up()
            if now >= due:
                due = now + self._write_every_s
                self._set_gauges()
                self.write_status()

    def _set_gauges(self) -> None:
        gauges = self._gauges  # another thread may leave Ray meanwhile
        if gauges is None:
            return
        try:
            gauges.set(gauge_values(self.state()))
        except Exception:  # whatever Ray raises; the sweep and its status file go on
            log.warning("the gauges were not set", exc_info=True)

    def write_status(self) -> None:
        """Write the status file now; the log says if the storage does not take it."""
        if self._lease.is_taken:
            return
        try:
            write_state(self._store, self.state())
            self._written = time.monotonic()
            self._asked.discard("storage_away")
        except Exception as error:  # each storage has its own; the next write may get through
            log.info("the status file was not written: %s", error)
            silent = time.monotonic() - self._written
            if silent > AWAY_S:
                self.need_person(
                    "storage_away",
                    f"the storage is away for {clock_text(silent)}: {line_of(error)}",
                )

    # The state

    def state(self) -> SweepState:
        """The content of the status file."""
        states, wanted = self._states, self._plan.wanted.keys()
        with states.lock:
            # Behind the jobs come the report and the search, of which no estimate knows.
            has_jobs = states.over < len(self._plan.jobs)
            return {
                "schema": SCHEMA,
                "sweep": self._name,
                "end": self._end,
                "reason": self._reason,
                "command": self.command,
                "driver": asdict(Process.current()),
                "written": time.strftime("%Y-%m-%d %H:%M:%S%z"),
                "wall_s": states.clock() - states.began,
                "lanes": states.lanes,
                "points": count_points(wanted, self._plan.jobs.keys(), states),
                "jobs": count_jobs(self._plan.jobs.keys(), states),
                "seconds_left": self._left.seconds() if has_jobs and not self._end else None,
                "images_per_s": states.images_per_s,
                "gpu_hours": self._gpu_hours,
                "running": [] if self._end else running_jobs(states),
                "failed": failed_jobs(states),
                "retried": retried_jobs(states),
                "cancelled": cancelled_points(wanted, states),
                "notes": list(self._notes),
            }

    def _earlier_gpu_hours(self) -> float:
        """GPU-hours of the drivers before."""
        try:
            state = read_state(self._store, self._name)
        except StoreError:
            return 0.0
        return 0.0 if state is None else state["gpu_hours"]

    def _ending(self) -> str:
        points = self.state()["points"]
        text = (
            f"{self._name}: {self._end}, {points['done']} of {points['total']} points are complete"
        )
        return f"{text} ({self._reason})" if self._reason else text

    def _notify(self, event: str, text: str) -> None:
        state = self.state()
        points = state["points"]
        self._notifier.send(
            {
                "event": event,
                "text": textwrap.shorten(without_secrets(text), MOST_LETTERS, placeholder=" ..."),
                "sweep": self._name,
                "storage": self._store.uri,
                "points": points["total"],
                "points_done": points["done"],
                "points_failed": points["failed"],
                "points_cancelled": points["cancelled"],
                "gpu_hours": state["gpu_hours"],
                "wall_s": state["wall_s"],
                "command": self.command,
            }
        )
