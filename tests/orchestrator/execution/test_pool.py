"""The pool of evaluators, in this process: whom it lends, keeps and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import evaluators
from orchestrator.execution.evaluators import Pool
from orchestrator.execution.job_steps import Settings
from search_spaces import load_space


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The evaluators that were ended; each is a number, in the order of their starts."""
    ended: list[Any] = []
    started = iter(range(100))

    def start(pool: Pool, job: str, answerer: str) -> Any:
        return evaluators._Loan(next(started), None, job, answerer)  # type: ignore[arg-type]

    monkeypatch.setattr(Pool, "_start", start)
    monkeypatch.setattr(evaluators, "_end", lambda loan: ended.append(loan.actor))
    return ended


def test_an_evaluator_above_the_limit_ends_when_it_is_given_back(
    tmp_path: Path, ended: list[Any]
) -> None:
    pool = Pool(Settings(load_space("smoke"), str(tmp_path), {}, {}))
    assert [pool.lend(name, name, "mllm") for name in "abc"] == [0, 1, 2]
    pool.keep(2, frozenset("abc"))
    assert ended == [], "all are lent"
    pool.give_back("b", is_broken=False)
    assert ended == [1], "the room of one above the limit is another job's"
    pool.give_back("a", is_broken=False)
    assert ended == [1], "it waits for the next job"
    assert pool.lend("d", "d", "mllm") == 0
