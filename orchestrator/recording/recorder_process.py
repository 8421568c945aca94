"""The recorder of a sweep in a process of its own, so that the driver does nothing but drive.

    driver: RecorderProcess --messages--> child: recorder_child --> Recorder
                 ^--lines for a person, questions about the lease, the outcome--'

MLflow's database, tables and figures would take several times the time that Ray needs for a job,
and what was measured of thousands of points stays in the memory of whoever reads it. The two
processes share a socket; a child whose driver is gone ends at once. A child that ends itself, as
by the system for its memory, is replaced by one that reads anew what the storage holds, and hears
again what has failed or was cancelled.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Self

from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from orchestrator.recording.growing_points import SweepLease
from orchestrator.recording.recorder import concerns_recorder
from orchestrator.recording.request import JobResults, Outcome, Request
from orchestrator.tracking.log_queue import ABANDON_S
from orchestrator.tracking.points_file import MissingPoint

MOST_STARTS: Final = 3
"""Of children: one that the same sweep ends again and again is no help."""
END_S: Final = ABANDON_S + 5.0
"""Seconds that a child has to end; then it is killed."""
MODULE: Final = "orchestrator.recording.recorder_child"
log = logging.getLogger(__name__)


class RecorderLostError(RuntimeError):
    """The processes that record a sweep ended, one after the other."""


class RecorderProcess:
    """Records a sweep in a child process; has the methods of `Recorder`.

    Args:
        request, plan, note, lease: as of `Recorder`.
    """

    def __init__(
        self, request: Request, plan: Plan, note: Callable[[str], None], lease: SweepLease
    ) -> None:
        self._request, self._plan, self._note, self._lease = request, plan, note, lease
        self._lock = threading.Lock()
        self._starts = 0
        self._is_given_up = False
        self._unstored: dict[str, JobEvent] = {}
        """How jobs ended of which the storage has no stage, by key."""
        self._child = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._child.end()

    def _start(self) -> _Child:
        self._starts += 1
        child = _Child(self._note, self._lease)
        child.send("record", self._request, self._plan)
        for event in list(self._unstored.values()):
            child.send("listen", event)
        return child

    def _living(self) -> _Child | None:
        """The child, or a new one in place of one that has ended; None after `MOST_STARTS`."""
        with self._lock:
            if self._child.how_it_ended is None:
                return self._child
            how = self._child.how_it_ended
            if self._starts == MOST_STARTS:
                if not self._is_given_up:
                    self._is_given_up = True
                    self._note(
                        f"the process that records this sweep ended {MOST_STARTS} times, the last "
                        f"time with {how}: the sweep goes on, but MLflow, the points file and the "
                        "report wait for the next run of the same command"
                    )
                return None
            self._note(f"the process that records this sweep ended ({how}); another one goes on")
            self._child = self._start()
            return self._child

    def _send(self, name: str, *content: object) -> None:
        child = self._living()
        if child is not None:
            child.send(name, *content)

    def listen(self, event: JobEvent) -> None:
        """Record what happened to a job; called from several threads."""
        if not concerns_recorder(event):
            return
        # Before it is sent: a child that starts meanwhile hears it twice, but it hears it.
        self._remember(event)
        self._send("listen", event)

    def _remember(self, event: JobEvent) -> None:
        match event.kind:
            case "failed" | "withdrawn":
                for key in event.failed:
                    self._unstored[key] = JobEvent("failed", key, event.reason)
            case "cancelled":
                self._unstored[event.key] = event
            case "finished" | "progressed":  # a person may let what was cancelled run again
                self._unstored.pop(event.key, None)

    def grow(self) -> None:
        """Take over what the plan has become: points were added."""
        self._send("grow", self._plan)

    def add_complete(self, key: str) -> None:
        """Record an added point, by its key, that the storage holds already."""
        self._send("add_complete", key)

    def report(self, results: JobResults, missing: Mapping[str, MissingPoint]) -> Outcome:
        """Record how the sweep ended; waits for it.

        Raises:
            RecorderLostError: several children ended before they had.
            Exception: as of `Recorder.report`.
        """
        while (child := self._living()) is not None:
            outcome = child.ask("report", results, dict(missing))
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                return outcome
        raise RecorderLostError(
            f"the process that records this sweep ended {MOST_STARTS} times, the last time "
            f"with {self._child.how_it_ended} (more in {self._request.driver_log}); what is "
            "finished is in the storage, and the same command reports it"
        )


class _Child:
    """A child process, and the two threads that speak with it.

    Nobody waits for it but who asks for its answer: it may be stopped, or busy.

    Args:
        note, lease: as of `Recorder`.
    """

    def __init__(self, note: Callable[[str], None], lease: SweepLease) -> None:
        self._note, self._lease = note, lease
        self.how_it_ended: str | None = None
        """The signal or exit code; None while it runs."""
        self._is_asked_to_end = False
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: SimpleQueue[Outcome | Exception | None] = SimpleQueue()
        mine, theirs = socket.socketpair()
        # What the driver imports, the child finds, too.
        path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        self._connection = Connection(mine.detach())
        for run, name in ((self._write, "to the recorder"), (self._read, "from the recorder")):
            threading.Thread(target=run, name=name, daemon=True).start()

    def send(self, name: str, *content: object) -> None:
        """Send a message; its content is that of now."""
        self._outbox.put(pickle.dumps((name, content)))

    def ask(self, name: str, *content: object) -> Outcome | Exception | None:
        """Send a message and wait for the answer; None if the child ends before."""
        self.send(name, *content)
        try:
            return self._answers.get()
        except BaseException:  # a signal stops the sweep, which then waits for nothing
            self._process.kill()
            raise

    def end(self) -> None:
        """Let it end behind what it does just now."""
        self._is_asked_to_end = True
        self.send("end")
        self._outbox.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.kill()
        self._process.wait()

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(message)
            except (OSError, TypeError):  # it has ended, and the other thread may have closed it
                return

    def _read(self) -> None:
        try:
            with self._connection:
                while (message := self._receive()) is not None:
                    self._take(*message)
        finally:
            self.how_it_ended = _in_words(self._process.wait())
            if not self._is_asked_to_end:
                log.warning("the recorder ended: %s", self.how_it_ended)
            self._answers.put(None)

    def _receive(self) -> tuple[str, Any] | None:
        """The next message; None from a child that has ended."""
        try:
            message: tuple[str, Any] = self._connection.recv()
            return message
        except (EOFError, OSError):
            return None

    def _take(self, name: str, content: Any) -> None:
        match name:
            case "note":
                with contextlib.suppress(BrokenPipeError):  # the terminal is gone
                    self._note(content)
            case "lease?":
                self.send("lease", self._lease.is_lost, self._lease.is_taken)
            case "outcome":
                self._answers.put(content)
            case _:
                raise ValueError(f"a message {name!r}")


def _in_words(code: int) -> str:
    """How a process ended.

    Args:
        code: its exit code; below 0 the number of a signal.
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"
