from __future__ import annotations

import pickle

import pytest

from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.pickled_jobs import PickledJobs
from orchestrator.plan.jobs import Job, Plan
from search_spaces import load_space, operating_points


def jobs_of(seeds: int) -> dict[str, Job]:
    space = load_space("smoke", [f"seeds={list(range(seeds))}"])
    return Plan(space, operating_points(space), {}, None).jobs


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_copy_has_the_same_jobs(is_shared: bool) -> None:
    jobs = jobs_of(1)
    buffers: list[pickle.PickleBuffer] = []
    keep = buffers.append if is_shared else None
    data = pickle.dumps(PickledJobs(jobs), protocol=5, buffer_callback=keep)
    copy = pickle.loads(data, buffers=buffers)
    assert len(buffers) == is_shared
    assert dict(copy) == jobs
    again = pickle.loads(pickle.dumps(copy, protocol=5))
    assert dict(again) == jobs
    with pytest.raises(KeyError):
        copy["no such key"]


def test_a_process_unpickles_its_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was every job of the sweep: 7.7 MB and 0.8 s at a thousand points."""
    jobs = jobs_of(50)
    space = load_space("smoke")
    shared: list[pickle.PickleBuffer] = []
    settings = Settings(space, "s", PickledJobs(jobs), {})
    data = pickle.dumps(settings, protocol=5, buffer_callback=shared.append)
    assert len(data) < 60 * len(jobs) + len(pickle.dumps(space)) + 2000
    assert len(pickle.dumps(jobs, protocol=5)) > 40 * len(data)

    unpickled = []

    def record(job: Job, state: dict[str, object]) -> None:
        unpickled.append(state["key"])
        job.__dict__.update(state)

    monkeypatch.setattr(Job, "__setstate__", record, raising=False)
    copy = pickle.loads(data, buffers=shared)
    assert unpickled == []
    key = list(jobs)[-1]
    assert copy.jobs[key] == jobs[key]
    assert copy.jobs[key].label == jobs[key].label
    assert unpickled == [key]
