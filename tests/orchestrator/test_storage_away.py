"""A storage that cannot be used is one line with its URI and no secret, and an exit code."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from orchestrator.driver import hand_over as hand_over_module
from orchestrator.driver.hand_over import RefusedSpaceError, UnansweredError, hand_over
from orchestrator.execution.environment import StorageAwayError
from orchestrator.recording.request import Request
from orchestrator.storage.files import Files
from orchestrator.storage.lease import SweepHeldError
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Answer
from orchestrator.sweep import main
from search_spaces import load_space, operating_points
from tests.orchestrator.models import SMOKE

AWAY = EndpointConnectionError(endpoint_url="https://me:hunter2@host/bucket?X-Amz-Signature=abc")
HELD = SweepHeldError("sweep 'smoke' is being run by process 7 on node-9")


def fail(*arguments: Any, **options: Any) -> Any:
    raise AWAY


@pytest.fixture
def storage(tmp_path: Path) -> str:
    Store(str(tmp_path)).write("stages/point/0123456789abcdef/manifest.json", b"{}")
    return str(tmp_path)


@pytest.mark.parametrize(
    "words", [["cancel", "smoke", "x"], ["prioritise", "smoke", "x"], ["status", "smoke"], ["gc"]]
)
def test_a_command_that_has_begun_nothing_exits_2(
    words: list[str],
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for method in ("read", "names", "infos", "directories"):
        monkeypatch.setattr(Files, method, fail)
    assert main([*words, "--storage", storage]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --storage {storage}: cannot be used (EndpointConnectionError: ")
    assert "hunter2" not in line
    assert "abc" not in line


def test_an_error_of_this_program_is_no_fault_of_the_storage(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.monitoring.status.read_state", lambda store, sweep: {}["x"])
    with pytest.raises(KeyError):
        main(["status", "smoke", "--storage", storage])


def test_a_deletion_that_was_begun_exits_1_and_can_go_on(
    storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrator.gc.delete_unreferenced", fail)
    assert main(["gc", "--delete", "--storage", storage]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; the same command goes on")


def test_a_request_that_was_made_exits_1_and_may_have_been_carried_out(
    storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(store: Store, sweep: str, kind: str, content: object, waits: Any) -> None:
        waits()
        raise AWAY

    monkeypatch.setattr("orchestrator.steering.command.read_state", lambda store, sweep: sweep)
    monkeypatch.setattr("orchestrator.steering.command.ask", ask)
    assert main(["cancel", "smoke", "x", "--storage", storage]) == 1
    _, line = capsys.readouterr().err.splitlines()
    assert line.endswith("; the sweep's driver may have done it all the same")


@pytest.mark.parametrize(
    ("is_asked", "error"), [(False, StorageAwayError), (True, UnansweredError)]
)
def test_points_that_are_handed_over_tell_whether_the_driver_was_asked(
    is_asked: bool, error: type[Exception], storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(store: Store, sweep: str, kind: str, content: object, waits: Any) -> None:
        if is_asked:
            waits()
        raise AWAY

    monkeypatch.setattr(hand_over_module, "ask", ask)
    space = load_space("smoke")
    points = operating_points(space)
    request = Request(space, points, Store(storage), "smoke", None, False, 0.0, "the command")
    with pytest.raises(error, match=f"--storage {storage}: cannot be used") as raised:
        hand_over(request, HELD)
    assert "hunter2" not in str(raised.value)


def test_the_lines_of_the_driver_are_told_apart(
    storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer(True, ("added 2 operating points", "cancelled before: a, b"))
    monkeypatch.setattr(hand_over_module, "ask", lambda *arguments: answer)
    space = load_space("smoke")
    points = operating_points(space)
    request = Request(space, points, Store(storage), "smoke", None, False, 0.0, "the command")
    assert hand_over(request, HELD)
    text = capsys.readouterr().out
    assert text.startswith("added 2 operating points; cancelled before: a, b; follow it by `")


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (StorageAwayError("--storage x: cannot be used"), 2, "error: --storage x: cannot be used"),
        (UnansweredError("that driver may have added"), 1, "  python -m orchestrator.sweep smoke"),
        (RefusedSpaceError("d1.steps = 16"), 2, "error: d1.steps = 16"),
    ],
)
def test_a_sweep_that_is_not_handed_over_exits_with_lines(
    error: Exception,
    code: int,
    last: str,
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(request: Request) -> bool:
        raise error

    monkeypatch.setattr("orchestrator.sweep._run_or_hand_over", refuse)
    monkeypatch.setattr("orchestrator.sweep.stopped_by_signals", contextlib.nullcontext)
    assert main([*SMOKE, "--storage", storage]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(last)
