"""Evaluators keep the MLLM, go on after a kill and make room: on a real, small Ray."""

import gc
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from ray.exceptions import GetTimeoutError

from orchestrator.execution import cluster, evaluators
from orchestrator.execution.backends import train as train_module
from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.backends.train import TrainBackend, report_interval
from orchestrator.execution.evaluators import DriverPool, Standing, follow, lent, pool_name
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings, pass_name
from orchestrator.plan.jobs import Job
from orchestrator.plan.room import Ask
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage.process import Process
from search_spaces.specs.evaluation import KindResources
from tests.orchestrator.models import settings_of
from tests.orchestrator.plan.demands import alike, one_node
from tests.orchestrator.waiting import wait_until
from trainables.evaluation.shard_results import kept_shards

SETTINGS = (
    "scenarios=[]",
    "baselines=[uncompressed]",
    "classical=[{format: jpeg, qualities: [10, 40]}]",
    "evaluation.shard_size=2",
    "resources.workers_per_point=1",
)


def settings_in(directory: Path, models: tuple[Path, Path], *more: str) -> Settings:
    return settings_of(directory, models, *SETTINGS, *more)


def points(settings: Settings) -> list[Job]:
    return [job for job in settings.jobs.values() if job.subject.point is not None]


def train(settings: Settings) -> None:
    """Make the images and the points' own stages, without any evaluation."""
    for job in settings.jobs.values():
        if job.subject.point is None:
            run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    for job in points(settings):
        with settings.store.work(job.key) as (work, lease):
            LocalBackend(settings).train(job, work, lease, lambda metrics: None)


@pytest.fixture(scope="module")
def ready(
    tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]
) -> Iterator[tuple[Settings, DriverPool]]:
    """Three trained points that nobody evaluated, and a pool on Ray."""
    settings = settings_in(tmp_path_factory.mktemp("storage"), models)
    train(settings)
    cluster.set_environment(verbose=False)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        pool = DriverPool()
        pool.open(settings)
        yield settings, pool
    finally:
        ray.shutdown()


def asked(settings: Settings, job: Job, question: Callable[[Any], Any]) -> Any:
    """Ask the evaluator that would get a job's first evaluation."""
    made = job.passes[0]
    with lent(job.key, made.key, made.answerer) as evaluator:
        return ray.get(evaluator.__ray_call__.remote(question))


def mllms_loaded(evaluator: Any) -> tuple[int, int]:
    """The process, and how often it has loaded an MLLM."""
    from trainables.evaluation.loaded_models import load_mllm

    return os.getpid(), load_mllm.cache_info().misses


def free() -> float:
    """CPUs that nobody has asked for."""
    resources: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 0)


@pytest.mark.slow
def test_an_evaluator_keeps_the_mllm_survives_a_kill_and_makes_room(
    ready: tuple[Settings, DriverPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluators, "LOOK_S", 0.05)
    monkeypatch.setattr(train_module, "REPORT_EVERY_S", 0.05)
    settings, pool = ready
    store, (first, second, third) = settings.store, points(settings)
    told: list[Any] = []
    TrainBackend(settings).evaluate(first, first.passes, told.append)
    assert told[-1] == {"phase": "evaluate", "step": 1, "steps": 1}
    process, loaded = asked(settings, second, mllms_loaded)
    assert loaded == 1
    TrainBackend(settings).evaluate(second, second.passes, told.append)
    assert asked(settings, second, mllms_loaded) == (process, 1)
    for job in (first, second):
        assert all(store.has(stage.path) for _, stage in job.evaluations)

    # Killed after some shards of the third point, it goes on behind them.
    stage = third.evaluations[0][1]
    with store.evaluation_work(third.key, third.passes[0].key) as (work, _):
        pass
    with ThreadPoolExecutor(1) as threads:
        told.clear()
        made = threads.submit(TrainBackend(settings).evaluate, third, third.passes, told.append)
        wait_until(lambda: len(kept_shards(work)) > 2, 120)
        os.kill(process, signal.SIGKILL)
        assert not store.has(stage.path), "it was done before it was killed"
        kept = {shard: shard.stat().st_mtime_ns for shard in kept_shards(work)}
        made.result()
    assert {shard: shard.stat().st_mtime_ns for shard in kept} == kept
    rows = pq.read_table(store.fetch(stage.path) / "samples.parquet").to_pylist()
    reference = pq.read_table(store.fetch(second.evaluations[0][1].path) / "samples.parquet")
    assert {row["sample_id"] for row in rows} == set(reference["sample_id"].to_pylist())
    assert told[0] == {"phase": "waiting for workers", "step": 0, "steps": 0}
    assert {told_now["phase"] for told_now in told[1:]} >= {"evaluate"}
    assert any(0 < told_now["step"] < 1 for told_now in told), "no share of the evaluation"
    again, _ = asked(settings, second, mllms_loaded)
    assert again != process

    # An idle evaluator holds one worker's share until its room is wanted.
    pool.keep(1, frozenset())
    wait_until(lambda: free() == pytest.approx(1.05), 120)
    assert asked(settings, second, mllms_loaded)[0] == again
    pool.keep(0, frozenset())
    wait_until(lambda: free() == pytest.approx(2), 120)
    assert asked(settings, second, mllms_loaded)[0] != again


@pytest.mark.slow
def test_a_sweep_that_grows_keeps_its_pool(ready: tuple[Settings, DriverPool]) -> None:
    settings, pool = ready
    job = points(settings)[0]
    pool.keep(2, frozenset({job.key}))
    process, _ = asked(settings, job, mllms_loaded)
    pool.open(settings)
    gc.collect()
    time.sleep(1)  # Ray ends an actor in another thread
    pool.keep(1, frozenset({job.key}))
    assert asked(settings, job, mllms_loaded)[0] == process


@pytest.mark.slow
def test_an_evaluator_that_raised_serves_nobody_again(ready: tuple[Settings, DriverPool]) -> None:
    """Its GPU may be unusable, or its memory full."""
    settings, _ = ready
    job = points(settings)[0]
    process, _ = asked(settings, job, mllms_loaded)

    def fail(evaluator: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        asked(settings, job, fail)
    assert asked(settings, job, mllms_loaded)[0] != process


@pytest.mark.slow
def test_an_evaluator_that_is_stopped_is_not_waited_for_for_ever(
    ready: tuple[Settings, DriverPool],
) -> None:
    """None of its threads runs, so it cannot end itself."""
    settings, pool = ready
    job = points(settings)[0]
    pool.keep(2, frozenset({job.key}))
    made = job.passes[0]
    process, _ = asked(settings, job, mllms_loaded)
    told: list[Standing] = []

    def stop(standing: Standing) -> None:
        told.append(standing)
        os.kill(process, signal.SIGSTOP)

    def ask() -> None:
        with lent(job.key, made.key, made.answerer) as evaluator:
            result = evaluator.__ray_call__.remote(lambda evaluator: time.sleep(600))
            follow(evaluator, result, stop, 2.0)

    try:
        with pytest.raises(GetTimeoutError, match="2 s"):
            ask()
    finally:
        os.kill(process, signal.SIGCONT)
    assert told == [Standing(0.0)]


@pytest.mark.slow
def test_an_evaluation_that_another_process_has_shows_what_it_waits_for(
    ready: tuple[Settings, DriverPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a loss of the machine on which it was begun."""
    monkeypatch.setattr(evaluators, "LOOK_S", 0.05)
    monkeypatch.setattr(train_module, "REPORT_EVERY_S", 0.05)
    settings, _ = ready
    job = points(settings)[0]
    for _, stage in job.evaluations:
        shutil.rmtree(settings.store.path(stage.path), ignore_errors=True)
    told: list[Any] = []
    backend = TrainBackend(settings)
    with ThreadPoolExecutor(1) as threads:
        with settings.store.evaluation_work(job.key, pass_name(job.passes[0], None)):
            made = threads.submit(backend.evaluate, job, job.passes, told.append)
            line = f"waiting for {Process.current()}, which works on it"
            wait_until(lambda: made.done() or told[-1]["phase"] == line, 60)
            assert not made.done(), made.exception()
        made.result()
    assert told[-1] == {"phase": "evaluate", "step": 1, "steps": 1}
    assert all(settings.store.has(stage.path) for _, stage in job.evaluations)


@pytest.mark.slow
def test_a_pool_that_dies_starts_again_and_lends_new_evaluators(
    ready: tuple[Settings, DriverPool],
) -> None:
    settings, pool = ready
    job = points(settings)[1]
    process, _ = asked(settings, job, mllms_loaded)
    actor = ray.get_actor(pool_name())
    os.kill(ray.get(actor.__ray_call__.remote(lambda pool: os.getpid())), signal.SIGKILL)
    stage = job.evaluations[0][1]
    shutil.rmtree(settings.store.path(stage.path), ignore_errors=True)
    TrainBackend(settings).evaluate(job, job.passes, lambda metrics: None)
    assert settings.store.has(stage.path)
    assert asked(settings, job, mllms_loaded)[0] != process
    pool.keep(0, frozenset({"another job"}))
    wait_until(lambda: free() == pytest.approx(2), 120)


@pytest.mark.slow
def test_actors_share_the_samples_of_one_evaluation(ready: tuple[Settings, DriverPool]) -> None:
    settings, pool = ready
    job = points(settings)[2]
    (made,) = job.passes
    stages = [stage for _, stage in made.evaluations]
    TrainBackend(settings).evaluate(job, job.passes, lambda metrics: None)
    names = [f"{settings.store.path(stage.path)}/samples.parquet" for stage in stages]
    alone = [pq.read_table(name).to_pylist() for name in names]
    for stage in stages:
        shutil.rmtree(settings.store.path(stage.path))
    settings.store.remove_work(job.key)
    two = settings.space.resources.model_copy(
        update={"by_kind": {"evaluation": KindResources(workers_per_point=2)}}
    )
    shared = replace(settings, space=settings.space.model_copy(update={"resources": two}))
    told: list[Any] = []
    TrainBackend(shared).evaluate(job, job.passes, told.append)
    assert [pq.read_table(name).to_pylist() for name in names] == alone
    work = settings.store.local("work", job.key)
    parts = {path.name.partition("-of-")[0][-1] for path in work.glob("*-of-2")}
    assert parts == {"0", "1"}
    assert {metrics["steps"] for metrics in told} >= {1, 2}, "two parts, then the whole"
    settings.store.remove_work(job.key)
    pool.keep(0, frozenset({"another job"}))


def test_every_kind_of_point_reports_as_often_as_it_keeps_checkpoints(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    more = ("scenarios=[d1, d2, d3]", "baselines=[uncompressed, reconstruction, post_processing]")
    settings = settings_in(tmp_path, models, *more)
    found = {
        point.scenario: report_interval(settings, job)
        for job in points(settings)
        if (point := job.subject.point)
    }
    assert found == {
        **dict.fromkeys(("uncompressed", "reconstruction", "classical"), 1),
        **{"d1": 4, "d2": 2, "d3": 2, "post_processing": 2},
    }


def test_evaluators_have_the_lanes_in_which_nothing_trains(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    jobs = settings_in(tmp_path, models).jobs
    schedule = Schedule(jobs, alike(), one_node(2))
    for job in jobs.values():
        if job.kind == "scenes":
            schedule.finish(job.key)
    assert schedule.evaluators_beside_training(Ask(cpu=1)) == 2
    first, second = schedule.next_job(), schedule.next_job()
    assert first is not None
    assert second is not None
    assert schedule.evaluators_beside_training(Ask(cpu=1)) == 0
    schedule.stage_made(first.key)
    assert schedule.evaluators_beside_training(Ask(cpu=1)) == 1
    schedule.finish(first.key)
    assert schedule.evaluators_beside_training(Ask(cpu=1)) == 1


def test_what_a_dead_trial_had_goes_to_nobody(ready: tuple[Settings, DriverPool]) -> None:
    settings, pool = ready
    job = points(settings)[0]
    made = job.passes[0]
    process = asked(settings, job, mllms_loaded)[0]
    taken = lent(job.key, made.key, made.answerer)
    taken.__enter__()  # and nobody gives it back
    assert asked(settings, job, mllms_loaded)[0] != process
    taken = lent(job.key, made.key, made.answerer)
    taken.__enter__()
    pool.keep(1, frozenset({"another job"}))
    wait_until(lambda: free() == pytest.approx(2), 120)


@pytest.mark.slow
def test_an_evaluator_is_not_ended_while_ray_starts_it(
    ready: tuple[Settings, DriverPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would lose its CPU."""
    settings, _ = ready
    barrier, killed = tmp_path / "starts", []

    class Slow:
        def __init__(self, settings: Settings) -> None:
            while not barrier.exists():
                time.sleep(0.02)

    def kill(actor: Any) -> None:
        killed.append(barrier.exists())
        end_now(actor)

    end_now = ray.kill
    monkeypatch.setattr(evaluators, "Evaluator", Slow)
    monkeypatch.setattr(ray, "kill", kill)
    pool = evaluators.Pool(settings)
    pool.lend("a job", "a pass", "encoder")
    wait_until(lambda: free() < 2, 60)
    pool.keep(2, frozenset())
    time.sleep(1)
    barrier.touch()
    wait_until(lambda: killed, 60)
    assert killed == [True]
    wait_until(lambda: free() == pytest.approx(2), 60)


def test_a_new_task_evaluates_what_is_trained_and_trains_nothing(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = ("resources.workers_per_point=0", "classical=[]")
    settings = settings_in(tmp_path, models, *local, "tasks=[vqa]")
    for job in settings.jobs.values():
        run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("stages/*/*/manifest.json")}
    assert not settings_in(tmp_path, models, *local, "tasks=[vqa]").jobs

    def fail(*arguments: Any) -> None:
        raise AssertionError("something is trained")

    monkeypatch.setattr(LocalBackend, "train", fail)
    settings = settings_in(tmp_path, models, *local, "tasks=[rec]")
    (job,) = settings.jobs.values()
    run_job(settings, job.key, lambda: LocalBackend(settings), lambda metrics: None)
    now = {p: p.stat().st_mtime_ns for p in tmp_path.glob("stages/*/*/manifest.json")}
    assert now.items() >= made.items()
    (new,) = now.keys() - made.keys()
    assert new.parent.parent.name == "evaluation"
    rows = pq.read_table(new.parent / "samples.parquet").to_pylist()
    assert {row["task"] for row in rows} == {"rec"}
