"""A node drains with notice: its work is kept and goes on elsewhere. On real raylets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import ray
from ray import train
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.execution import cluster
from orchestrator.execution.backends.drain import node_notice
from orchestrator.execution.backends.train import TrainContext
from tests.orchestrator.waiting import wait_until

STEPS = 600
NOTICE_S = 15


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1")
    cluster.set_environment(verbose=False)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=nodes.address, log_to_driver=False)
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def take_steps(config: dict[str, str]) -> None:
    """Count in place of training; regular checkpoints would never come."""
    with TemporaryDirectory() as scratch:
        context = TrainContext(10 * STEPS, Path(scratch), lambda metrics: None, 1)
        first = 1
        if (kept := context.latest_checkpoint()) is not None:
            first = int((kept / "step").read_text()) + 1
        node = ray.get_runtime_context().get_node_id()
        with Path(config["log"]).open("a", encoding="utf-8") as log:
            print("start", node, first, file=log, flush=True)
            for step in range(first, STEPS + 1):
                time.sleep(0.05)
                has_notice = context.must_checkpoint(step)
                if has_notice or step == STEPS:
                    checkpoint = Path(scratch) / f"checkpoint-{step}"
                    checkpoint.mkdir()
                    (checkpoint / "step").write_text(str(step))
                    context.report({"step": step, "steps": STEPS}, checkpoint)
                    print("notice" if has_notice else "end", node, step, file=log, flush=True)


@ray.remote(num_cpus=0)
def wait_for_notice(log: str) -> bool:
    with node_notice() as is_draining:
        with Path(log).open("a", encoding="utf-8") as file:
            print("waits", ray.get_runtime_context().get_node_id(), 0, file=file)
        return wait_until(is_draining, 120)


@ray.remote(num_cpus=0)
def fit(storage: str, log: str) -> None:
    TorchTrainer(
        take_steps,
        train_loop_config={"log": log},
        scaling_config=train.ScalingConfig(num_workers=1),
        run_config=train.RunConfig(name="run", storage_path=storage),
    ).fit()


@pytest.mark.slow
def test_the_checkpoint_of_a_notice_is_where_another_node_goes_on(
    nodes: Cluster, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.touch()

    def rows(kind: str) -> list[tuple[str, int]]:
        lines = [line.split() for line in log.read_text().splitlines()]
        return [(node, int(step)) for name, node, step in lines if name == kind]

    run = fit.remote(str(tmp_path / "train"), str(log))
    ((drained, _),) = wait_until(lambda: rows("start"), 120)
    here = NodeAffinitySchedulingStrategy(drained, soft=False)
    trial = wait_for_notice.options(scheduling_strategy=here).remote(str(log))
    wait_until(lambda: rows("waits"), 120)
    time.sleep(2)  # steps are taken
    is_accepted, why = GcsClient(address=nodes.address).drain_node(
        drained, DRAIN_NODE_REASON_PREEMPTION, "", int(1000 * (time.time() + NOTICE_S))
    )
    assert is_accepted, why
    assert ray.get(trial, timeout=120)
    ray.get(run, timeout=240)
    notices, (_, (other, first)) = rows("notice"), rows("start")
    assert notices
    assert {node for node, _ in notices} == {drained}
    assert other != drained
    assert first == notices[-1][1] + 1
    assert rows("end") == [(other, STEPS)]
