"""Trials that wait for jobs: which of them end, and when; the last test on a real, small Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray import cloudpickle, tune
from ray.tune.registry import _global_registry

from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials import runner as runner_module
from orchestrator.execution.trials import tune as tune_module
from orchestrator.execution.trials.pickled_jobs import PickledJobs
from orchestrator.execution.trials.runner import Runner
from orchestrator.execution.trials.trial import JOB, WAIT
from orchestrator.execution.trials.waiting import WaitingTrials, wait_for_end
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job
from orchestrator.scheduling.schedule import Schedule
from search_spaces import load_space
from search_spaces.specs.stage import Subject, make_stage
from tests.orchestrator.plan.demands import alike, one_node


def job(name: str, *needs: str) -> Job:
    stage = make_stage("codec", {"name": name}, {}, Subject())
    return Job(name, "codec", name, stage, 0, 1.0, needs)


class Lanes:
    """A runner of jobs on two CPUs, and the events that it reported."""

    def __init__(self, storage: Path, *jobs: Job) -> None:
        by_key = {job.key: job for job in jobs}
        settings = Settings(load_space("smoke"), str(storage), PickledJobs(by_key), {})
        self.schedule = Schedule(by_key, alike(), one_node(2))
        self.events: list[JobEvent] = []
        self.runner = Runner(
            settings,
            self.schedule,
            self.events.append,
            lambda groups: one_node(2),
            lambda limit, running: None,
        )


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the waiting trials that were ended."""
    ids: list[str] = []
    monkeypatch.setattr(runner_module, "end_wait", ids.append)
    monkeypatch.setattr(runner_module, "node_ids", frozenset)
    return ids


def test_a_trial_waits_until_a_job_needs_its_lane(ended: list[str], tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, job("world"), *(job(name, "world") for name in "abc"))
    runner = lanes.runner
    assert [runner.next_trial(name) for name in ("1", "2", "3")] == ["world", WAIT, None]
    runner.trial_reported("2", {WAIT: 1})
    assert ended == [], "three jobs will need the lane"
    lanes.schedule.finish("world")
    assert runner.next_trial("3") == "a"
    assert ended == [], "the world's lane is free"
    assert runner.next_trial("4") == "b"
    assert ended == ["2"]
    assert runner.next_trial("5") is None
    runner.trial_completed("2")
    assert ended == ["2"]


def test_a_trial_that_has_not_started_is_ended_only_when_it_is_warm(
    ended: list[str], tmp_path: Path
) -> None:
    lanes = Lanes(tmp_path, job("world"), *(job(name, "world") for name in "abc"))
    runner = lanes.runner
    assert [runner.next_trial(name) for name in ("1", "2")] == ["world", WAIT]
    lanes.schedule.finish("world")
    assert [runner.next_trial(name) for name in ("3", "4")] == ["a", "b"]
    assert ended == []
    runner.trial_reported("2", {WAIT: 1})
    assert ended == ["2"]


def test_no_trial_waits_when_every_job_is_over(ended: list[str], tmp_path: Path) -> None:
    lanes = Lanes(tmp_path, job("world"), job("a", "world"))
    runner = lanes.runner
    assert [runner.next_trial(name) for name in ("1", "2")] == ["world", WAIT]
    runner.trial_reported("2", {WAIT: 1})
    lanes.schedule.finish("world")
    assert runner.next_trial("3") == "a"
    lanes.schedule.finish("a")
    runner.end_waits()
    assert ended == ["2"]


def test_jobs_that_start_together_list_the_nodes_once(
    ended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At fifty nodes a list of them costs the driver milliseconds."""
    lists: list[int] = []

    def list_nodes() -> frozenset[str]:
        lists.append(1)
        return frozenset({"head"})

    monkeypatch.setattr(runner_module, "node_ids", list_nodes)
    monkeypatch.setattr(runner_module, "NODES_EVERY_S", 1000.0)
    runner = Lanes(tmp_path, *(job(name) for name in "abc")).runner
    assert [runner.next_trial(name) for name in ("1", "2", "3")] == ["a", "b", None]
    assert len(lists) == 1
    monkeypatch.setattr(runner_module, "NODES_EVERY_S", -1.0)
    runner.schedule.finish("a")
    assert runner.next_trial("4") == "c"
    assert len(lists) == 2


def test_a_trial_is_ended_once() -> None:
    ids: list[str] = []
    waiting = WaitingTrials(ids.append)
    for trial_id in ("1", "2", "3"):
        waiting.add(trial_id)
        waiting.warm(trial_id)
    waiting.keep(2)
    waiting.keep(2)
    assert ids == ["1"]
    assert len(waiting) == 2
    waiting.remove("1")
    waiting.keep(0)
    assert ids == ["1", "2", "3"]


@pytest.fixture
def small_ray() -> Iterator[None]:
    cluster.set_environment(verbose=False)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def run_trial(config: Mapping[str, str], settings: Settings) -> None:
    """Like the project's, with jobs that write who ran them and nothing else."""
    if config[JOB] == WAIT:
        (Path(settings.storage) / f"waited-{os.getpid()}").touch()
        tune.report({WAIT: 1})
        wait_for_end(tune.get_context().get_trial_id())
        return
    key = config[JOB]
    tune.report({"phase": "train", "step": 1, "steps": 2, "metrics": {"loss": 0.5}})
    until = time.monotonic() + 60
    # The first job needs its lane until a trial waits, and the second one until the third is done.
    awaited = {"world": "waited-*", "a": "stages/codec/b-done"}.get(key)
    while awaited and len(settings.jobs) > 1 and not list(Path(settings.storage).glob(awaited)):
        assert time.monotonic() < until
        time.sleep(0.05)
    store, made = settings.store, settings.jobs[key].stage
    out = store.new(made.path)
    (out / "process.txt").write_text(str(os.getpid()), encoding="utf-8")
    store.commit(made.path, out, {})
    (Path(settings.storage) / "stages" / "codec" / f"{key}-done").touch()


@pytest.mark.slow
def test_what_tune_unpickles_for_every_trial_holds_no_jobs(
    small_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the driver, twice for each trial: it took seconds at a thousand points."""
    sizes: list[int] = []
    register = _global_registry.register

    def record(category: str, key: str, value: object) -> None:
        sizes.append(len(cloudpickle.dumps(value)))
        register(category, key, value)

    monkeypatch.setattr(_global_registry, "register", record)
    monkeypatch.setattr(tune_module, "run_trial", run_trial)
    lanes = Lanes(tmp_path, replace(job("a"), label="a" * 10**6))
    tune_module.tune_jobs(lanes.runner, verbose=False)
    assert lanes.schedule.done == {"a"}
    assert sizes
    assert max(sizes) < 10**5


@pytest.mark.slow
def test_a_job_starts_in_the_process_that_waited_and_its_metrics_reach_the_listener(
    small_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "run_trial", run_trial)
    lanes = Lanes(tmp_path, job("world"), job("a", "world"), job("b", "world"))
    reports: list[str] = []
    reported = lanes.runner.trial_reported

    def record(trial_id: str, metrics: Mapping[str, object]) -> None:
        reports.append(WAIT if WAIT in metrics else str(metrics["phase"]))
        reported(trial_id, metrics)

    monkeypatch.setattr(lanes.runner, "trial_reported", record)
    tune_module.tune_jobs(lanes.runner, verbose=False)
    assert lanes.schedule.done == {"world", "a", "b"}
    progress = {e.key: dict(e.metrics) for e in lanes.events if e.kind == "progressed"}
    assert progress == {key: {"loss": 0.5} for key in ("world", "a", "b")}
    (waited,) = (path.name.removeprefix("waited-") for path in tmp_path.glob("waited-*"))
    processes = [path.read_text() for path in tmp_path.glob("stages/codec/*/process.txt")]
    assert len(processes) == 3
    assert waited in processes
    assert reports.count(WAIT) == 1, "a trial that waits reports once, however long it waits"
