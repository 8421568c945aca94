"""The child process of `recorder_process`: a `Recorder`, and who speaks with the driver.

    main thread: messages of the driver --> a queue, answers about the lease
    a thread:    the queue --> Recorder

Its standard output and error are the driver's: its log, or the terminal with `--verbose`. It
ignores signals, and ends when the driver's end of the socket closes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import Empty, Queue, SimpleQueue
from typing import Any, Final

import psutil

from orchestrator.execution.environment import is_disk_full, line_of
from orchestrator.plan.jobs import Plan
from orchestrator.recording.recorder import Recorder
from orchestrator.recording.request import Outcome
from search_spaces.settings.secrets import without_secrets

ANSWER_S: Final = 10.0
"""So long an answer of the driver may take: then it is stopped, or hangs."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
log = logging.getLogger(__name__)


class DriverLink:
    """Speaks with the driver. It is also the driver's lease, as far as a recorder looks at that.

    Args:
        connection: to the driver.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._states: Queue[tuple[bool, bool]] = Queue()
        self._driver = psutil.Process(os.getppid())

    def send(self, name: str, content: object) -> None:
        """Send a message; of a driver that is gone, the other thread knows."""
        message = pickle.dumps((name, content))
        with self._lock, contextlib.suppress(OSError):
            self._connection.send_bytes(message)

    def note(self, line: str) -> None:
        """Show a line to a person."""
        self.send("note", line)

    def may_log(self) -> bool:
        """Whether the driver runs: while it is stopped, another one may take its place."""
        with contextlib.suppress(psutil.Error):
            return bool(self._driver.status() != psutil.STATUS_STOPPED)
        return False

    def put_lease(self, is_lost: bool, is_taken: bool) -> None:
        """Take the driver's answer."""
        self._states.put((is_lost, is_taken))

    def _ask(self) -> tuple[bool, bool]:
        with contextlib.suppress(Empty):  # answers that came too late
            while True:
                self._states.get_nowait()
        self.send("lease?", None)
        try:
            return self._states.get(timeout=ANSWER_S)
        except Empty:
            return True, False

    @property
    def is_lost(self) -> bool:
        """As of `Lease`; True where the driver does not answer."""
        return self._ask()[0]

    @property
    def is_taken(self) -> bool:
        """As of `Lease`."""
        return self._ask()[1]


def main(descriptor: int) -> None:
    """Record the sweep of the driver at the other end of a socket."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)
    _log_without_secrets()
    _compute_in_calling_thread()
    connection = Connection(descriptor)
    link, messages = DriverLink(connection), SimpleQueue[tuple[str, Any]]()
    threading.Thread(target=_carry_out, args=(link, messages), name="recorder", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, content = connection.recv()
            if name == "lease":
                link.put_lease(*content)
            else:
                messages.put((name, content))
    # The driver is gone; what waits is left to the next one.
    os._exit(1)


class _WithoutSecrets(logging.Formatter):
    """Lines and tracebacks in which no password or token stands."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _log_without_secrets() -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_WithoutSecrets("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _compute_in_calling_thread() -> None:
    """Let NumPy compute in the thread that calls it: the other cores are the jobs'."""
    import numpy  # noqa: F401  only a library that is loaded can be limited
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def _carry_out(link: DriverLink, messages: SimpleQueue[tuple[str, Any]]) -> None:
    """Carry out the messages, in their order."""
    try:
        _, (request, plan) = messages.get()  # the first one says what is to be recorded
        with Recorder(request, plan, link.note, link, link.may_log) as recorder:
            _record(link, messages, recorder, plan)
    except BaseException:  # whatever ends this thread ends the process: the driver waits for it
        log.exception("the recorder")
        os._exit(1)
    os._exit(0)


def _record(
    link: DriverLink, messages: SimpleQueue[tuple[str, Any]], recorder: Recorder, plan: Plan
) -> None:
    first_error: Exception | None = None
    while True:
        name, content = messages.get()
        if name == "end":
            return
        try:
            match name:
                case "listen":
                    recorder.listen(*content)
                case "grow":
                    (larger,) = content
                    plan.grow(larger, larger.jobs)
                    recorder.grow()
                case "add_complete":
                    recorder.add_complete(*content)
                case "report":
                    outcome = recorder.report(*content)
                    link.send("outcome", _as_sent(outcome, outcome.error or first_error))
                case _:
                    raise ValueError(f"a message {name!r}")
        except Exception as error:
            log.exception("the recorder: %s", name)
            first_error = first_error or error
            if name == "report":
                link.send("outcome", _portable(error))


def _as_sent(outcome: Outcome, error: Exception | None) -> Outcome:
    return replace(outcome, error=None if error is None else _portable(error))


def _portable(error: Exception) -> Exception:
    """An error that the driver can read and treats alike; its traceback is in the log."""
    is_full = is_disk_full(error)
    with contextlib.suppress(Exception):  # whatever the constructor of some error raises
        read: Exception = pickle.loads(pickle.dumps(error))
        if type(read) is type(error) and is_disk_full(read) == is_full:
            return read
    if is_full:
        return OSError(errno.ENOSPC, line_of(error))
    return RuntimeError(f"{type(error).__name__}: {line_of(error)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
