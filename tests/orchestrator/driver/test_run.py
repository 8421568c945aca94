"""The end of a sweep."""

import shutil
from pathlib import Path

import pytest

from orchestrator.driver.line_view import LineView
from orchestrator.driver.request import Request
from orchestrator.driver.run import _run
from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from orchestrator.tracking.mlflow_client import AwayError
from orchestrator.tracking.mlflow_runs import Tracker
from search_spaces import load_space


@pytest.mark.parametrize("call", ["mark_stale", "finish"])
def test_a_server_that_goes_away_at_the_end_is_only_noted(
    call: str,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def raise_away(*arguments: object) -> None:
        raise AwayError("gone")

    shutil.copy(empty_database, tmp_path)
    monkeypatch.setattr(Tracker, call, raise_away)
    space, store = load_space("smoke"), Store(str(tmp_path))
    request = Request(space, (), store, "smoke", None, False, 0.0, "the command")
    assert not _run(request, Plan(space, (), {}, store), LineView()).missing
    assert store.read("smoke/sweep.json") is not None
    assert "gone" in capsys.readouterr().out
