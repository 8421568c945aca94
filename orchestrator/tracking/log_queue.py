"""Logging in a thread: what is to be logged waits in a queue, and nothing waits for the server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.mlflow_runs import Tracker

IDLE_S: Final = 1.0
Action = Callable[[Tracker], object]


class LogQueue:
    """A tracker in a thread.

    Args:
        open_tracker: called in the thread.
        note: called with a line for a person if the server is away: once, and again in `close`.
        idle: called in the thread every `IDLE_S` seconds while the queue is empty.
    """

    def __init__(
        self,
        open_tracker: Callable[[], Tracker],
        note: Callable[[str], None],
        idle: Action | None = None,
    ) -> None:
        self._open = open_tracker
        self._note = note
        self._idle = idle
        self._queue: SimpleQueue[Action | None] = SimpleQueue()
        # `close` opens the tracker though nothing may be left.
        self._left: list[Action] = [_open_only]
        self._tracker: Tracker | None = None
        self._is_away = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, action: Action) -> None:
        """Call `action` with the tracker, soon; if the server is away, in `close`."""
        self._queue.put(action)

    def close(self) -> Tracker | None:
        """Empty the queue and end the thread; None if the server is still away."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._is_away = False
        return self._tracker if all(self._call(action) for action in self._left) else None

    def _run(self) -> None:
        try:
            self._call(_open_only)
            while (action := self._next()) is not None:
                if not self._call(action):
                    self._left.append(action)
        except BaseException as error:
            self._error = error  # raised again by `close`

    def _next(self) -> Action | None:
        """The next action, or None at the end; calls `idle` while it waits."""
        while True:
            idle = None if self._is_away else self._idle
            try:
                return self._queue.get(timeout=None if idle is None else IDLE_S)
            except Empty:
                assert idle is not None
                self._call(idle)

    def _call(self, action: Action) -> bool:
        """Call an action, unless the server is away, now or since before; True if called."""
        if not self._is_away:
            try:
                self._tracker = self._tracker or self._open()
                action(self._tracker)
            except AwayError as error:
                self._is_away = True
                self._note(f"MLflow is away ({error}); the storage keeps what is to be logged")
        return not self._is_away


def _open_only(tracker: Tracker) -> None:
    """Do nothing: the tracker was opened."""
