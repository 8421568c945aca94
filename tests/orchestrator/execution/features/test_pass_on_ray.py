"""A pass on real raylets: a machine is lost in its middle, and it becomes smaller in its middle."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from orchestrator.execution import cluster
from orchestrator.execution.backends.local import LocalBackend
from orchestrator.execution.failures import JobFailure
from orchestrator.execution.features import run_pass as run_pass_module
from orchestrator.execution.features import stream
from orchestrator.execution.features.run_pass import run_pass
from orchestrator.execution.features.shards import shards
from orchestrator.execution.features.steps import ComputeStep
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_run import run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Job
from orchestrator.plan.room import Ask
from tests.orchestrator.models import settings_of
from tests.orchestrator.waiting import wait_until
from trainables.training.precompute import ShardModel

IN_FLIGHT = 2 * (stream.TASKS_PER_ACTOR + 2)
"""Shards that two actors and two tasks may have at a time."""


class SlowModel(ShardModel):
    """Computes slowly, and writes down each shard with its process and its node.

    The first process that finds a file `stop` beside its log renames it to its process id, and is
    stopped with a shard in its hands.
    """

    def __init__(self, model: ShardModel, log: Path) -> None:
        self._model, self._log = model, log

    def __call__(self, images: pa.Table) -> pa.Table:
        with contextlib.suppress(FileNotFoundError):
            self._log.with_name("stop").rename(self._log.with_name(f"stopped-{os.getpid()}"))
            os.kill(os.getpid(), signal.SIGSTOP)
        began = time.time()
        time.sleep(0.5)
        table = self._model(images)
        line = {
            "shard": images.column("image_id")[0].as_py(),
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "began": began,
            "ended": time.time(),
        }
        with self._log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return table


class SlowStep(ComputeStep):
    def _load(self, job: Job) -> ShardModel:
        return SlowModel(super()._load(job), Path(self._settings.storage) / "computed.jsonl")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that runs no jobs, and two machines with a GPU each, as far as Ray knows."""
    # pytest keeps what is logged, and with an error's frames the actors that its task was sent to.
    monkeypatch.setattr(logging.getLogger("ray.data"), "disabled", True)
    for name in ("streaming_executor", "streaming_executor_state"):
        logger = logging.getLogger(f"ray.data._internal.execution.{name}")
        monkeypatch.setattr(logger, "disabled", True)
    monkeypatch.setattr(stream, "ComputeStep", SlowStep)
    monkeypatch.setattr("orchestrator.execution.features.steps.device_of", lambda space: "cpu")
    cluster.set_environment(verbose=False)
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=machines.address, log_to_driver=False)
        for _ in range(2):
            machines.add_node(num_cpus=1, num_gpus=1)
        yield machines
    finally:
        ray.shutdown()
        machines.shutdown()


def features(
    storage: Path, models: tuple[Path, Path], max_failures: int = 0
) -> tuple[Settings, Job]:
    """A sweep whose world is made, and the job of 13 shards of teacher features."""
    counts = ("data.train=48", "data.val=4", "data.test=2", "data.episodes=1", "data.shard_size=4")
    settings = settings_of(storage, models, *counts, f"resources.max_failures={max_failures}")
    (job,) = (job for job in settings.jobs.values() if job.kind == "features")
    images = job.inputs["world"].key
    run_job(settings, images, lambda: LocalBackend(settings), lambda metrics: None)
    assert len(shards(settings, job)) == 13
    return settings, job


def run(
    settings: Settings, job: Job, room: Room, after: Callable[[int], None]
) -> list[dict[str, str | float]]:
    """Run the pass; what was computed, in order.

    Args:
        after: called with the number of complete shards.
    """
    failures: list[JobFailure | None] = []
    run_pass(
        settings,
        [job],
        room,
        lambda key, failure: failures.append(failure),
        lambda key, done, total: after(done),
        lambda key, reason: None,
    )
    assert failures == [None]
    stage = settings.store.fetch(job.stage.path)
    assert len(list(stage.rglob("*.parquet"))) == 13
    lines = (Path(settings.storage) / "computed.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def has_ended(pid: int) -> bool:
    """Whether a process has ended, whether or not its parent has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_a_machine_lost_in_the_middle_costs_its_unfinished_shards(
    tmp_path: Path, models: tuple[Path, Path], nodes: Cluster
) -> None:
    settings, job = features(tmp_path, models)

    def lose_one(done: int) -> None:
        if done == 4:
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    computed = run(settings, job, Room(2, 2, Ask(1, 0.05)), lose_one)
    names = [line["shard"] for line in computed]
    assert len(set(names)) == 13
    assert len(names) <= 13 + IN_FLIGHT
    assert len({line["node"] for line in computed}) == 2


@pytest.mark.slow
def test_a_pass_that_must_make_room_ends_its_other_actors(
    tmp_path: Path, models: tuple[Path, Path], nodes: Cluster
) -> None:
    settings, job = features(tmp_path, models)
    room, resized = Room(2, 2, Ask(1, 0.05)), [0.0]

    def shrink(done: int) -> None:
        if done == 4:
            room.resize(1)
            resized[0] = time.time()

    computed = run(settings, job, room, shrink)
    before = {line["pid"] for line in computed if line["ended"] < resized[0]}
    assert before
    last = sorted(computed, key=lambda line: line["ended"])[-5:]
    assert len({line["pid"] for line in last}) == 1
    assert len(computed) <= 13 + IN_FLIGHT


@pytest.mark.slow
def test_a_process_that_the_system_has_stopped_is_ended_and_its_shards_are_made_again(
    tmp_path: Path, models: tuple[Path, Path], nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, job = features(tmp_path, models, max_failures=1)
    monkeypatch.setattr(run_pass_module, "BACKSTOP_S", 5.0 - settings.space.resources.silence_s)
    monkeypatch.setattr(run_pass_module, "STOPPED_LOOK_S", 1.0)
    (tmp_path / "stop").touch()
    computed = run(settings, job, Room(2, 2, Ask(1, 0.05)), lambda done: None)
    assert len({line["shard"] for line in computed}) == 13
    (stopped,) = tmp_path.glob("stopped-*")
    pid = int(stopped.name.removeprefix("stopped-"))
    assert pid not in {line["pid"] for line in computed}
    wait_until(lambda: has_ended(pid), 30)
