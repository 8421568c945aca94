from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from orchestrator.driver.jobs_on_ray import listener
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points


def test_nobody_asks_the_storage_again_for_the_stages_of_a_finished_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner has seen them; on S3, each question costs a request."""
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, Store(str(tmp_path)))
    logged: list[object] = []
    monitor = SimpleNamespace(job_event=lambda event: None)
    log, growing = SimpleNamespace(add=logged.append), SimpleNamespace(add=lambda point: None)
    listen = listener(plan, monitor, log, growing)  # type: ignore[arg-type]

    def refuse(store: Store, stage: str) -> NoReturn:
        raise AssertionError(f"asks for {stage}")

    monkeypatch.setattr(Store, "has", refuse)
    point = plan.points[0]
    job = plan.jobs[plan.key(point)]
    assert job.evaluations
    listen(JobEvent("finished", job.key))
    assert logged == [point]
    assert plan.is_complete(point)
    with pytest.raises(AssertionError, match="asks for"):
        plan.is_complete(plan.points[1])
