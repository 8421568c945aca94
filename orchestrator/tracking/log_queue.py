"""Logging in a thread: what is to be logged waits in a queue, and nothing waits for the server."""

from __future__ import annotations

import logging
import textwrap
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
MOST_TRIES: Final = 3
"""Of an action that fails at a server which answers other questions, or at the storage."""
CLOSE_S: Final = 300.0
"""So long the end of a sweep waits for an action: a server may ask for hours of patience (429)."""
ABANDON_S: Final = 10.0
"""So long a sweep that ends early waits for an action that has begun."""
MOST_NOTES: Final = 5
"""Refusals that are shown one by one; of further ones, the number."""
Action = Callable[[Tracker], object]
log = logging.getLogger(__name__)


class LogQueue:
    """A tracker in a thread. What a server refuses costs that action alone.

    Args:
        open_tracker: called in the thread.
        note: called with a line for a person when the server is away or refuses something.
        idle: called in the thread before every action, and every `IDLE_S` seconds while nothing
            waits.
        may_log: called in the thread before every action; while it says no, all of them wait.
    """

    def __init__(
        self,
        open_tracker: Callable[[], Tracker],
        note: Callable[[str], None],
        idle: Action | None = None,
        may_log: Callable[[], bool] = lambda: True,
    ) -> None:
        self._open = open_tracker
        self._note = note
        self._idle, self._may_log = idle, may_log
        self._queue: SimpleQueue[Action | None] = SimpleQueue()
        # The tracker is opened though nothing may be logged.
        self._waiting: deque[Action] = deque([_open_only])
        self._tracker: Tracker | None = None
        self._is_away = False
        self._is_last = False
        """Whether nothing is put any more: what fails now is left to the next run."""
        self._is_abandoned = threading.Event()
        self._retry_at = 0.0
        self._tries = 0
        self._done = 0
        self._refused: set[str] = set()
        self.error: Exception | None = None
        """The first error of this program in the thread; to be raised when all else is done."""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, action: Action) -> None:
        """Call `action` with the tracker, soon; if the server is away, when it is back."""
        self._queue.put(action)

    def close(self) -> Tracker | None:
        """Empty the queue and end the thread; None if the server is still away.

        Also None if the server answers so late that an action takes more than `CLOSE_S`.
        """
        self._queue.put(None)
        done = -1
        while self._thread.is_alive() and self._done != done:
            done = self._done
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._note("MLflow takes too long; the same command logs the rest")
            return None
        more = len(self._refused) - MOST_NOTES
        if more > 0:
            self._note(f"MLflow refuses {more} more things; the log of the driver has them")
        return None if self._waiting else self._tracker

    def abandon(self) -> None:
        """End the thread behind the action that has begun; the next run logs the rest."""
        self._is_abandoned.set()
        self._queue.put(None)
        self._thread.join(ABANDON_S)

    def _run(self) -> None:
        self._catch_up()
        while True:
            try:
                action = self._queue.get(timeout=IDLE_S)
            except Empty:
                self._catch_up()
                if not self._waiting:
                    self._call_idle()
                continue
            if action is None:
                break
            self._waiting.append(action)
            self._catch_up()
        while not self._may_log() and not self._is_abandoned.wait(IDLE_S):
            pass
        self._retry_at, self._is_last = 0.0, True  # once more
        self._catch_up()

    def _catch_up(self) -> None:
        """Call what waits, in its order, unless the server is away."""
        while self._waiting and self._is_due() and not self._is_abandoned.is_set():
            if self._tracker is not None and not self._is_last and not self._call_idle():
                return
            if not self._call(self._waiting[0]):
                return
            self._waiting.popleft()
            self._is_away, self._tries = False, 0
            self._done += 1

    def _is_due(self) -> bool:
        return time.monotonic() >= self._retry_at and self._may_log()

    def _call_idle(self) -> bool:
        """Call `idle`, unless the server is away; False if it is."""
        return self._idle is None or (self._is_due() and self._call(self._idle))

    def _call(self, action: Action) -> bool:
        """Call an action; False if the server is away, so that it has to be called again.

        Also False if the storage is away that the action reads.
        """
        try:
            self._tracker = self._tracker or self._open()
            action(self._tracker)
        except AwayError as error:
            if self._fails_again(action):
                self._note_refusal(str(error))
                return True
            self._retry_at = time.monotonic() + RETRY_S
            if not self._is_away:
                reason = textwrap.shorten(str(error), 160, placeholder=" ...")
                self._note(
                    f"MLflow is away: the sweep goes on, the storage keeps what is to be logged "
                    f"({reason})"
                )
            self._is_away = True
            return False
        except RefusedError as error:
            self._note_refusal(str(error))
            if self._tracker is None:  # nothing can be logged before it lets the sweep in
                self._retry_at = time.monotonic() + RETRY_S
                return False
        except Exception as error:
            log.exception("logging to MLflow")
            self.error = self.error or error
        if self._tracker is not None:
            while self._tracker.refusals:
                self._note_refusal(self._tracker.refusals.pop(0))
        return True

    def _fails_again(self, action: Action) -> bool:
        """Whether an action has failed too often although the server answers other questions."""
        if self._tracker is None or not self._waiting or action is not self._waiting[0]:
            return False
        try:
            self._tracker.ask()
        except (AwayError, RefusedError):
            return False
        self._tries += 1
        return self._is_last or self._tries >= MOST_TRIES

    def _note_refusal(self, text: str) -> None:
        if text in self._refused:
            return
        self._refused.add(text)
        log.warning("MLflow refuses something: %s", text)
        if len(self._refused) <= MOST_NOTES:
            self._note(f"MLflow refuses something ({text}); the sweep goes on without it")


def _open_only(tracker: Tracker) -> None:
    """Do nothing: the tracker was opened."""
