"""When the queue may log, and what becomes of what waits."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from orchestrator.tracking import log_queue
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.mlflow_runs import Tracker


def some_tracker() -> Tracker:
    return cast(Tracker, SimpleNamespace(refusals=[]))


def test_what_may_not_be_logged_yet_is_logged_before_the_queue_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person stopped the driver while it wrote its report, and lets it go on."""
    monkeypatch.setattr(log_queue, "IDLE_S", 0.05)
    may_log, logged = threading.Event(), list[str]()
    queue = LogQueue(some_tracker, print, may_log=may_log.is_set)
    queue.put(lambda tracker: logged.append("a point"))
    timer = threading.Timer(1.0, may_log.set)
    timer.start()
    assert queue.close() is not None
    assert may_log.is_set()
    assert logged == ["a point"]
    timer.join()


def test_a_queue_that_is_abandoned_waits_for_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_queue, "IDLE_S", 0.05)
    monkeypatch.setattr(log_queue, "ABANDON_S", 60.0)
    logged: list[str] = []
    queue = LogQueue(some_tracker, print, may_log=lambda: False)
    queue.put(lambda tracker: logged.append("a point"))
    queue.abandon()
    assert not queue._thread.is_alive()
    assert logged == []
