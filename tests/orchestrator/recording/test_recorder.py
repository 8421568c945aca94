"""What the events of jobs lead to, in one process."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from mlflow import MlflowClient

from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from orchestrator.recording.growing_points import GrowingPoints
from orchestrator.recording.recorder import Recorder, concerns_recorder
from orchestrator.recording.request import Request
from orchestrator.storage.store import Store
from search_spaces import OperatingPoint
from tests.orchestrator.recording.test_point_log import (
    METRICS,
    commit,
    commit_point,
    curve,
    is_d1,
    job_of,
    runs,
)
from tests.orchestrator.tracking.trackers import uri
from tests.orchestrator.waiting import wait_until

HELD = SimpleNamespace(is_lost=False, is_taken=False)


@pytest.fixture
def recorder(store: Store, plan: Plan) -> Iterator[Recorder]:
    asked = plan.space, plan.points, store, plan.space.name, None, False, 0.0, "the command"
    with Recorder(Request(*asked, owner="ada"), plan, print, HELD) as recorder:
        yield recorder


def test_what_trains_is_shown_live_and_is_complete_at_the_end(
    tmp_path: Path, store: Store, plan: Plan, recorder: Recorder
) -> None:
    d1, codec = job_of(plan, is_d1), job_of(plan, lambda job: job.kind == "codec")
    for job in (d1, codec):
        recorder.listen(JobEvent("started", job.key))
        recorder.listen(JobEvent("progressed", job.key, "", "train", 1, 8, metrics=METRICS))

    def shown() -> bool:
        """Whether both runs have what is logged behind their creation."""
        found = runs(tmp_path)
        return all(k in found and found[k].data.metrics for k in (d1.key, codec.key))

    wait_until(shown, 60)
    live = runs(tmp_path)
    for job in (d1, codec):
        run = live[job.key]
        assert run.info.status == "RUNNING"
        assert run.data.metrics == {f"train/{name}": value for name, value in METRICS.items()}
        assert run.data.tags["mlflow.parentRunId"] == live["sweep"].info.run_id
        assert run.data.tags["mlflow.user"] == "ada"
        assert run.data.params["codec"] == "hyperprior"
    assert live[codec.key].data.tags["mlflow.runName"] == codec.label
    assert live[d1.key].data.tags["mlflow.runName"] == d1.label
    assert live[d1.key].data.params["lmbda"] == str(d1.subject.point.lmbda)  # type: ignore[union-attr]

    commit(store, codec.stage.path, {"info.json": "{}", "curve.jsonl": curve(8)})
    assert d1.subject.point is not None
    commit_point(store, plan, d1.subject.point)
    for job in (codec, d1):
        recorder.listen(JobEvent("finished", job.key))
    assert recorder._point_log.close({}) is not None
    assert recorder._point_log.error is None
    client = MlflowClient(uri(tmp_path))
    for job in (codec, d1):
        run = runs(tmp_path)[job.key]
        assert run.info.run_id == live[job.key].info.run_id
        assert (run.info.status, run.data.tags["bridgesweep.status"]) == ("FINISHED", "complete")
        rows = client.get_metric_history(run.info.run_id, "train/val_loss")
        # The history is by time, and this training took no time.
        assert sorted(row.step for row in rows) == list(range(1, 9))
    assert runs(tmp_path)[d1.key].data.metrics["vqa/accuracy"] == 0.5
    parent = runs(tmp_path)["sweep"].data.metrics
    assert parent == {"points_complete": 1.0, "points_total": float(len(plan.points))}


def test_jobs_that_fail_or_are_withdrawn_end_their_runs(
    tmp_path: Path, plan: Plan, recorder: Recorder
) -> None:
    codec, d1 = job_of(plan, lambda job: job.kind == "codec"), job_of(plan, is_d1)
    features = job_of(plan, lambda job: job.kind == "features")
    recorder.listen(JobEvent("progressed", codec.key, "", "train", 1, 8, metrics=METRICS))
    recorder.listen(JobEvent("failed", codec.key, "out of memory"))
    recorder.listen(JobEvent("failed", features.key, "no file"))
    recorder.listen(JobEvent("withdrawn", codec.key, "the disk is full", others=(d1.key,)))
    assert recorder._point_log.close({}) is not None
    reasons = {
        key: (run.info.status, run.data.tags.get("bridgesweep.reason"))
        for key, run in runs(tmp_path).items()
    }
    assert reasons[codec.key] == ("FAILED", "out of memory")
    assert reasons[d1.key] == ("FAILED", "the disk is full")
    assert features.key not in reasons


def test_each_finished_point_goes_to_the_growing_points_file(
    plan: Plan, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of which this job made a part."""
    added: list[OperatingPoint] = []
    monkeypatch.setattr(Plan, "is_complete", lambda plan, point: False)
    monkeypatch.setattr(GrowingPoints, "add", lambda growing, point: added.append(point))
    monkeypatch.setattr(recorder._point_log, "add_trained", lambda stage: None)
    for key in plan.jobs:
        recorder.listen(JobEvent("finished", key))
    assert set(added) == set(plan.points)
    assert len(added) == len(plan.points)


def test_the_storage_is_not_asked_for_the_stages_of_a_finished_job(
    plan: Plan, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner has seen them; on S3, each question costs a request."""
    logged: list[OperatingPoint] = []

    def refuse(store: Store, stage: str) -> NoReturn:
        raise AssertionError(f"asks for {stage}")

    monkeypatch.setattr(Store, "has", refuse)
    monkeypatch.setattr(recorder._point_log, "add", logged.append)
    monkeypatch.setattr(GrowingPoints, "add", lambda growing, point: None)
    recorder.listen(JobEvent("finished", plan.key(plan.points[0])))
    assert logged == [plan.points[0]]


@pytest.mark.parametrize(
    ("event", "is_told"),
    [
        (JobEvent("started", "k"), False),
        (JobEvent("progressed", "k", phase="evaluate", step=1, steps=8), False),
        (JobEvent("progressed", "k", step=1, steps=8, metrics=METRICS), True),
        (JobEvent("retried", "k", "out of memory"), False),
        (JobEvent("finished", "k"), True),
        (JobEvent("failed", "k", "it diverged"), True),
        (JobEvent("cancelled", "k"), True),
        (JobEvent("withdrawn", "k", "no file", others=("l",)), True),
    ],
)
def test_a_recorder_is_told_what_changes_a_record(event: JobEvent, is_told: bool) -> None:
    assert concerns_recorder(event) is is_told
