"""What a cluster has room for, and what its autoscaler is asked for."""

from __future__ import annotations

import pytest

from orchestrator.execution import cluster
from orchestrator.plan.resources import Ask
from search_spaces import load_space

SPACE = load_space("smoke", ["resources.workers_per_point=2", "resources.cpus_per_worker=4"])


def test_an_autoscaler_is_asked_for_all_that_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[list[dict[str, float]]] = []
    monkeypatch.setattr(
        "ray.autoscaler.sdk.request_resources", lambda bundles: requests.append(bundles)
    )
    cluster.ask_autoscaler(SPACE, 5)
    assert requests == [], "there is no autoscaler"
    monkeypatch.setattr(cluster, "can_grow", lambda: True)
    cluster.ask_autoscaler(SPACE, 5)
    cluster.ask_autoscaler(SPACE, 0)
    assert [len(bundles) for bundles in requests] == [10, 0]
    assert all(3.5 < bundle["CPU"] <= 4 for bundle in requests[0])


def test_a_cluster_without_a_node_for_workers_is_too_small_unless_it_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "nodes", lambda: [{"memory": 1e9}])
    problem = cluster.capacity(SPACE)[1]
    assert problem is not None
    assert "workers_per_point" in problem
    monkeypatch.setattr(cluster, "can_grow", lambda: True)
    assert cluster.capacity(SPACE) == (Ask(0, 0), None)
