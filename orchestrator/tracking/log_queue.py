"""The tracker's thread: what is logged waits in a queue, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from orchestrator.tracking.mlflow_runs import AwayError, Tracker

IDLE_S: Final = 1.0


class Background:
    """A tracker in a thread: imports and a slow server hold up nothing.

    Args:
        open_tracker: called in the thread.
        say: told, once, that the server is away.
        idle: called in the thread every `IDLE_S` seconds while there is nothing else to do.
    """

    def __init__(
        self,
        open_tracker: Callable[[], Tracker],
        say: Callable[[str], None],
        idle: Callable[[Tracker], object] | None = None,
    ) -> None:
        self._open = open_tracker
        self._say = say
        self._idle = idle
        self._queue: SimpleQueue[Callable[[Tracker], object] | None] = SimpleQueue()
        self._left: list[Callable[[Tracker], object]] = []
        self._tracker: Tracker | None = None
        self._is_away = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[Tracker], object]) -> None:
        """Do something with the tracker, soon; if the server is away, in `close`."""
        self._queue.put(work)

    def close(self) -> Tracker | None:
        """Do what is left; None if the server is still away."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        try:
            if self._tracker is None:
                self._tracker = self._open()
            for work in self._left:
                work(self._tracker)
        except AwayError as error:
            self._say(f"MLflow is away ({error}); points are kept and logged by the next run")
            return None
        return self._tracker

    def _work(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._error = error  # raised again by `close`

    def _loop(self) -> None:
        try:
            self._tracker = self._open()
        except AwayError as error:
            self._away(error)
        while (work := self._next()) is not None:
            if self._tracker is None or self._is_away:
                self._left.append(work)
                continue
            try:
                work(self._tracker)
            except AwayError as error:
                self._left.append(work)
                self._away(error)

    def _next(self) -> Callable[[Tracker], object] | None:
        """The next work; meanwhile what there is to do when idle."""
        while True:
            idle = self._idle if self._tracker is not None and not self._is_away else None
            try:
                return self._queue.get(timeout=None if idle is None else IDLE_S)
            except Empty:
                assert idle is not None
                assert self._tracker is not None
                try:
                    idle(self._tracker)
                except AwayError as error:
                    self._away(error)

    def _away(self, error: AwayError) -> None:
        self._is_away = True
        self._say(f"MLflow is away ({error}); points are kept in the storage meanwhile")
