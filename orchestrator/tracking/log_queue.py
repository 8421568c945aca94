"""Logging in a thread: what is to be logged waits in a queue, and nothing waits for the server."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from orchestrator.tracking.mlflow_client import AwayError, RefusedError
from orchestrator.tracking.mlflow_runs import Tracker

IDLE_S: Final = 1.0
RETRY_S: Final = 30.0
"""Between two tries of a server that is away."""
Action = Callable[[Tracker], object]
log = logging.getLogger(__name__)


class LogQueue:
    """A tracker in a thread. What a server refuses costs that action alone.

    Args:
        open_tracker: called in the thread.
        note: called with a line for a person when the server is away or refuses something.
        idle: called in the thread every `IDLE_S` seconds while nothing waits.
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
        # The tracker is opened though nothing may be logged.
        self._waiting: deque[Action] = deque([_open_only])
        self._tracker: Tracker | None = None
        self._is_away = False
        self._retry_at = 0.0
        self._refused: set[str] = set()
        self.error: Exception | None = None
        """The first error of this program in the thread; to be raised when all else is done."""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, action: Action) -> None:
        """Call `action` with the tracker, soon; if the server is away, when it is back."""
        self._queue.put(action)

    def close(self) -> Tracker | None:
        """Empty the queue and end the thread; None if the server is still away."""
        self._queue.put(None)
        self._thread.join()
        self._is_away, self._retry_at = False, 0.0
        self._catch_up()
        return None if self._waiting else self._tracker

    def _run(self) -> None:
        self._catch_up()
        while True:
            try:
                action = self._queue.get(timeout=IDLE_S)
            except Empty:
                self._catch_up()
                if self._idle is not None and not self._waiting:
                    self._call(self._idle)
                continue
            if action is None:
                return
            self._waiting.append(action)
            self._catch_up()

    def _catch_up(self) -> None:
        """Call what waits, in its order, unless the server is away."""
        while self._waiting and time.monotonic() >= self._retry_at:
            if not self._call(self._waiting[0]):
                return
            self._waiting.popleft()

    def _call(self, action: Action) -> bool:
        """Call an action; False if the server is away, so that it has to be called again."""
        try:
            self._tracker = self._tracker or self._open()
            action(self._tracker)
        except AwayError as error:
            self._retry_at = time.monotonic() + RETRY_S
            if not self._is_away:
                self._note(f"MLflow is away ({error}); the storage keeps what is to be logged")
            self._is_away = True
            return False
        except RefusedError as error:
            if str(error) not in self._refused:
                self._refused.add(str(error))
                self._note(f"MLflow refuses something ({error}); the sweep goes on without it")
        except Exception as error:
            log.exception("logging to MLflow")
            self.error = self.error or error
        self._is_away = False
        return True


def _open_only(tracker: Tracker) -> None:
    """Do nothing: the tracker was opened."""
