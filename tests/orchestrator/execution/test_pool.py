"""The pool of evaluators, in this process: whom it lends, keeps and ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError

from orchestrator.execution import evaluators, failures
from orchestrator.execution.evaluators import Pool
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points


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


def test_an_evaluator_that_ray_kills_to_free_memory_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, store = load_space("smoke"), Store(str(tmp_path))
    jobs = Plan(space, operating_points(space), {}, store).jobs
    job = next(job for job in jobs.values() if job.passes)
    evaluator = SimpleNamespace(evaluate=SimpleNamespace(remote=lambda *arguments: None))
    outcomes = iter([OutOfMemoryError("22 GB of 23 GB are used"), None])

    @contextlib.contextmanager
    def lend(*names: str) -> Iterator[SimpleNamespace]:
        yield evaluator

    def follow(*arguments: object) -> None:
        if (error := next(outcomes)) is not None:
            raise error

    monkeypatch.setattr(evaluators, "lent", lend)
    monkeypatch.setattr(evaluators, "follow", follow)
    for module in (evaluators, failures):
        monkeypatch.setattr(module, "node_ids", lambda: frozenset({"node"}))
    settings = Settings(space, str(tmp_path), jobs, {})
    evaluators.evaluate_in_pool(settings, job.key, job.passes[0], lambda standing: None)
    assert next(outcomes, "all were needed") == "all were needed"
