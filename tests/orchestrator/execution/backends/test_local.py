"""Training in a trial's process: memory that runs out, nodes that are taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.execution import job_steps
from orchestrator.execution.backends import drain, local
from orchestrator.execution.backends.drain import Reminder
from orchestrator.execution.backends.local import LocalBackend, TrialContext
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import (
    ACCUMULATION_FACTOR,
    Settings,
    accumulation_factor,
    slice_more,
)
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage.lease import Lease, LeaseLostError
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from trainables.evaluation import loaded_models
from trainables.training import train as training
from trainables.training.context import Context, LocalContext


def settings_in(directory: Path) -> Settings:
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, Store(str(directory)))
    return Settings(space, str(directory), plan.jobs, {})


def codec_job(settings: Settings) -> Job:
    return next(job for job in settings.jobs.values() if job.kind == "codec")


def write_result(out: Path) -> None:
    (out / "info.json").write_text(json.dumps({"seconds": 1.0}))


def train(settings: Settings, job: Job) -> Mapping[str, object]:
    """Train a job; returns the stage's manifest."""
    store = settings.store
    with store.work(job.key) as (work, lease):
        LocalBackend(settings).train(job, work, lease, lambda metrics: None)
    return store.manifest(job.stage.path)


@pytest.mark.parametrize("times", [0, 1])
def test_a_training_after_memory_ran_out_is_sliced_more_and_says_so(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, factors = settings_in(tmp_path), []
    job = codec_job(settings)

    def train_job(settings: Settings, store: Store, job: Job, out: Path, context: Context) -> None:
        factors.append(context.accumulation_factor)
        write_result(out)

    monkeypatch.setattr(local, "train_job", train_job)
    for _ in range(times):
        slice_more(settings.store, job.key)
    manifest = train(settings, job)
    assert factors == [2**times]
    assert manifest.get(ACCUMULATION_FACTOR) == (2 if times else None)
    settings.store.remove_work(job.key)
    assert accumulation_factor(settings.store, job.key) == 1


@pytest.mark.parametrize(("device", "forgotten"), [("cuda", ["forgotten"]), ("cpu", [])])
def test_a_training_on_a_gpu_begins_without_the_models_of_the_evaluation_before(
    device: str, forgotten: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial's process may train and evaluate in turn, and no GPU has room for both."""
    settings, steps = settings_in(tmp_path), []
    monkeypatch.setattr(job_steps, "inputs_of", lambda store, job: None)
    monkeypatch.setattr(loaded_models, "forget_models", lambda: steps.append("forgotten"))
    monkeypatch.setattr(training, "train_codec", lambda *arguments: steps.append("trained"))
    context = LocalContext(tmp_path / "run", device=device)
    job_steps.train_job(settings, settings.store, codec_job(settings), tmp_path, context)
    assert steps == [*forgotten, "trained"]


@pytest.mark.parametrize("reports", [True, False])
def test_a_training_whose_lease_is_lost_stops_at_its_next_report_and_commits_nothing(
    reports: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    job, check, steps = codec_job(settings), Lease.check, []

    def refuse(lease: Lease) -> None:
        raise LeaseLostError("x")

    def train_job(settings: Settings, store: Store, job: Job, out: Path, context: Context) -> None:
        monkeypatch.setattr(Lease, "check", refuse)
        if reports:
            context.report({"step": 10, "steps": 20})
        steps.append(20)
        write_result(out)

    monkeypatch.setattr(local, "train_job", train_job)
    with pytest.raises(LeaseLostError):
        run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    monkeypatch.setattr(Lease, "check", check)
    assert steps == ([] if reports else [20])
    assert not settings.store.has(job.stage.path)


def test_a_notice_asks_for_a_checkpoint_at_once_and_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, drains = 1000.0, False
    monkeypatch.setattr(drain.time, "monotonic", lambda: now)
    settings = settings_in(tmp_path)
    job = codec_job(settings)
    asked = []
    with settings.store.work(job.key) as (work, lease):
        context = TrialContext(
            settings.store, job.key, work, lease, lambda row: None, "cpu", lambda: drains
        )
        for step in range(1, 61):  # a second each
            now, drains = now + 1, step >= 10
            if context.must_checkpoint(step):
                asked.append(step)
    assert asked == [10, 30, 50]
    assert not Reminder().is_due(is_draining=False)
