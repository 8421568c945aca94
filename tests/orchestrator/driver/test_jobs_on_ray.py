from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from orchestrator.driver.jobs_on_ray import ClusterUnfitError, listener, run_on_ray
from orchestrator.execution import cluster
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from orchestrator.recording.request import Request
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points


def test_nobody_asks_the_storage_again_for_the_stages_of_a_finished_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner has seen them; on S3, each question costs a request."""
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, Store(str(tmp_path)))
    told: list[JobEvent] = []
    monitor, recorder = SimpleNamespace(job_event=told.append), SimpleNamespace(listen=told.append)
    listen = listener(plan, monitor, recorder)  # type: ignore[arg-type]

    def refuse(store: Store, stage: str) -> NoReturn:
        raise AssertionError(f"asks for {stage}")

    monkeypatch.setattr(Store, "has", refuse)
    point = plan.points[0]
    job = plan.jobs[plan.key(point)]
    assert job.evaluations
    listen(JobEvent("finished", job.key))
    assert [event.key for event in told] == [job.key, job.key]
    assert plan.is_complete(point)
    with pytest.raises(AssertionError, match="asks for"):
        plan.is_complete(plan.points[1])


@pytest.mark.parametrize(
    ("named", "line"),
    [
        ("10.0.0.9:6379", "joined the Ray cluster at 10.0.0.9:6379 (3 nodes)"),
        (
            "",
            "joined the Ray cluster at 10.0.0.9:6379 (3 nodes), which runs on this machine; "
            "RAY_ADDRESS=local starts Ray for a sweep alone",
        ),
    ],
)
def test_a_sweep_says_which_cluster_it_has_joined(
    named: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that somebody has started on this machine is joined without being named."""

    @contextlib.contextmanager
    def join(*options: object) -> Iterator[str]:
        yield "10.0.0.9:6379"

    monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr(cluster, "running", join)
    monkeypatch.setattr(cluster, "alive_nodes", lambda: [{"NodeID": n} for n in "abc"])
    monkeypatch.setattr(cluster, "shortages", lambda asks: ["it ends here"])
    space, store, notes = load_space("smoke"), Store(str(tmp_path)), list[str]()
    plan = Plan(space, operating_points(space), {}, store)
    request = Request(space, plan.points, store, "smoke", None, False, 0.0, "the command")
    monitor, unused = SimpleNamespace(note=notes.append), cast("Any", None)
    with pytest.raises(ClusterUnfitError, match="it ends here"):
        run_on_ray(request, plan, cast("Any", monitor), unused, unused, unused)
    assert notes == [line]
