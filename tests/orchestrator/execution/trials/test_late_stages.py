"""What the runner makes of a trial that ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.runner import Runner
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage import outage
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.plan.demands import alike, one_node
from tests.orchestrator.storage.late import History, LateStore


@dataclass(frozen=True, kw_only=True)
class LateSettings(Settings):
    """Settings whose storage is seen as the driver sees a shared disk."""

    opened: Store

    @property
    def store(self) -> Store:
        return self.opened


@pytest.mark.parametrize(("is_written", "kind"), [(True, "finished"), (False, "retried")])
def test_a_stage_that_a_shared_disk_shows_late_costs_no_try(
    is_written: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "VISIBLE_S", 1.0)
    monkeypatch.setattr(outage, "VISIBLE_LOOK_S", 0.02)
    history = History(delay=0.3)
    driver, worker = (LateStore(tmp_path, history, name) for name in ("driver", "worker"))
    space = load_space("smoke")
    jobs = Plan(space, operating_points(space), {}, driver).jobs
    settings = LateSettings(space, str(tmp_path), jobs, {}, opened=driver)
    schedule, events = Schedule(jobs, alike(), one_node(1)), list[JobEvent]()
    monkeypatch.setattr("orchestrator.execution.trials.runner.node_ids", frozenset)
    runner = Runner(
        settings, schedule, events.append, lambda groups: one_node(1), lambda limit, keys: None
    )
    key = runner.next_trial("a")
    assert key is not None
    if is_written:
        out = worker.new(jobs[key].stage.path)
        (out / "info.json").write_text("{}")
        worker.commit(jobs[key].stage.path, out, {})
    runner.trial_completed("a")
    runner.join()
    assert [(event.kind, event.key) for event in events[1:]] == [(kind, key)]
