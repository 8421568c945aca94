"""A worker node is lost while it evaluates: the evaluation goes on on another. On real raylets."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from orchestrator.execution import cluster, node_check
from orchestrator.execution.backends.train import TrainBackend
from orchestrator.execution.evaluators import DriverPool, lent, pool_name
from orchestrator.execution.job_steps import Settings
from orchestrator.storage.provenance import fingerprints
from tests.orchestrator.execution.test_evaluators import points, settings_in, train
from tests.orchestrator.waiting import wait_until
from trainables.evaluation.shard_results import kept_shards


@pytest.fixture
def machines(tmp_path: Path, models: tuple[Path, Path]) -> Iterator[tuple[Settings, Cluster]]:
    """Trained points without evaluations, and a cluster whose head runs no jobs."""
    settings = settings_in(tmp_path, models, "resources.max_failures=0")
    train(settings)
    cluster.set_environment(verbose=False)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=nodes.address, log_to_driver=False)  # the driver is on the head
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield settings, nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def node_of_actor(actor: object) -> str:
    return ray.get_runtime_context().get_node_id()


@pytest.mark.slow
def test_an_evaluation_survives_the_loss_of_its_node_without_costing_a_try(
    machines: tuple[Settings, Cluster],
) -> None:
    settings, nodes = machines
    checksums = fingerprints(settings.space)
    assert node_check.nodes_with_other_files(settings.space, settings.store, checksums) == []
    held = DriverPool()
    held.open(settings)
    job = points(settings)[0]
    made_in, stage = job.passes[0], job.evaluations[0][1]
    with settings.store.evaluation_work(job.key, made_in.key) as (work, _):
        pass
    with lent(job.key, made_in.key, made_in.answerer) as evaluator:
        lost = ray.get(evaluator.__ray_call__.remote(node_of_actor))
    pool = ray.get_actor(pool_name())
    assert ray.get(pool.__ray_call__.remote(node_of_actor)) == nodes.head_node.node_id
    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(TrainBackend(settings).evaluate, job, job.passes, print)
        wait_until(lambda: len(kept_shards(work)) > 1, 120)
        (node,) = (node for node in nodes.worker_nodes if node.node_id == lost)
        nodes.remove_node(node, allow_graceful=False)
        assert not settings.store.has(stage.path), "it was done before its node was lost"
        made.result(timeout=240)
    assert settings.store.has(stage.path)
    held.keep(0, frozenset())
