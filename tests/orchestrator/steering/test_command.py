"""The commands `cancel` and `prioritise`: what they say and with which exit code they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.storage import sweep_requests
from orchestrator.storage.lease import only_driver
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Answer, Inbox, SweepRequest
from orchestrator.sweep import main
from tests.orchestrator.waiting import wait_until


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A storage with the status of a sweep."""
    monkeypatch.setattr(sweep_requests, "LOOK_S", 0.05)
    monkeypatch.setattr("orchestrator.steering.command.read_state", lambda store, sweep: sweep)
    return Store(str(tmp_path))


def answered(store: Store, answer: Answer | None, *words: str) -> tuple[int, SweepRequest]:
    """Run a command while a driver runs the sweep; its exit code, and what the driver was asked.

    Args:
        answer: None: the driver ends without one.
    """
    requests: list[SweepRequest] = []

    def drive(is_driving: Callable[[], None]) -> None:
        with only_driver(store, "smoke") as lease:
            inbox = Inbox(store, "smoke", lease.number)
            is_driving()
            requests.extend(wait_until(inbox.pending, 30))
            if answer is not None:
                inbox.answer(requests[0], answer)
                wait_until(lambda: not store.names("requests/smoke"), 30)

    started = threading.Event()
    driver = threading.Thread(target=drive, args=(started.set,))
    driver.start()
    assert started.wait(10)
    code = main([*words, "--storage", store.uri])
    driver.join()
    return code, requests[0]


@pytest.mark.parametrize("verb", ["cancel", "prioritise"])
def test_a_driver_is_asked_and_its_answer_printed(
    verb: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer(True, ("done with d1", "and with d2"))
    code, request = answered(store, answer, verb, "smoke", "scenario=d1", "lambda=0.02")
    assert code == 0
    assert (request.kind, request.content) == (verb, {"points": ["scenario=d1", "lambda=0.02"]})
    assert capsys.readouterr().out == "done with d1\nand with d2\n"


def test_a_refusal_is_an_error_of_the_input(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = answered(store, Answer(False, ("no such point",)), "cancel", "smoke", "x")
    assert code == 2
    asking, error = capsys.readouterr().err.splitlines()
    assert asking == "asking the driver, which looks every 10 s"
    assert error == "error: no such point"


def test_a_driver_that_ended_before_it_answered_is_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = answered(store, None, "cancel", "smoke", "x")
    assert code == 1
    assert "ended before it answered" in capsys.readouterr().err


def test_a_sweep_that_does_not_run_is_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cancel", "smoke", "x", "--storage", store.uri]) == 2
    error = capsys.readouterr().err
    assert "'smoke' does not run now" in error
    assert "leave out of its space" in error


def test_an_unknown_sweep_is_told_with_the_sweeps_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(str(tmp_path)).write("status/other.json", b"{}")
    assert main(["cancel", "smoke", "x", "--storage", str(tmp_path)]) == 2
    assert "no sweep 'smoke' in" in capsys.readouterr().err
