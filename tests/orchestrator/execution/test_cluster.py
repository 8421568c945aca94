"""What a cluster has room for, and what its autoscaler is asked for."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from orchestrator.execution import cluster
from orchestrator.plan.jobs import Plan
from orchestrator.plan.resources import kinds_by_ask
from orchestrator.plan.room import Ask, Cluster
from search_spaces import load_space, operating_points
from tests.orchestrator.heads import free_port

SPACE = load_space("smoke", ["resources.workers_per_point=2", "resources.cpus_per_worker=4"])


def test_an_autoscaler_is_asked_for_all_that_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[list[dict[str, float]]] = []
    monkeypatch.setattr(
        "ray.autoscaler.sdk.request_resources", lambda bundles: requests.append(bundles)
    )
    groups = [(Ask(cpu=4), 10), (Ask(1, 2), 3)]
    cluster.ask_autoscaler(groups)
    assert requests == [], "there is no autoscaler"
    monkeypatch.setattr(cluster, "can_grow", lambda: True)
    cluster.ask_autoscaler(groups)
    cluster.ask_autoscaler([])
    cluster.ask_autoscaler([(Ask(cpu=1), 2000)])
    assert [len(bundles) for bundles in requests] == [13, 0, cluster.MOST_BUNDLES]
    assert all(3.5 < bundle["CPU"] <= 4 for bundle in requests[0][:10])
    assert all(bundle["GPU"] == 1 for bundle in requests[0][10:])


def test_a_cluster_without_a_node_for_workers_is_too_small_unless_it_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "nodes", lambda: Cluster.of([{"memory": 1e9}]))
    plan = Plan(SPACE, operating_points(SPACE), {}, None)
    asks = kinds_by_ask(SPACE, plan.jobs.values())
    assert any("2 x (4 CPU) for each" in line for line in cluster.shortages(asks))
    monkeypatch.setattr(cluster, "can_grow", lambda: True)
    assert cluster.shortages(asks) == []


@pytest.mark.parametrize(
    ("start", "grows"),
    [
        (None, False),
        ("ray start --head  --block  --no-monitor  --num-cpus=2", True),
        ("ray start --head  --block  --num-cpus=2", False),
        ("ray start --address=head:6379  --block", True),
    ],
)
def test_kuberay_grows_a_cluster_only_with_its_autoscaler(
    start: str | None, grows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERAY_GEN_RAY_START_CMD", raising=False)
    if start is not None:
        monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", start)
    assert cluster.can_grow() is grows


def test_a_node_whose_raylet_is_gone_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str, port: int) -> dict[str, object]:
        return {"NodeID": name, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}

    with socket.create_server(("127.0.0.1", 0)) as raylet:
        nodes = [node("lives", raylet.getsockname()[1]), node("gone", free_port())]
        monkeypatch.setattr(cluster, "alive_nodes", lambda: nodes)
        assert cluster.is_one_unreachable({"lives", "gone"})
        assert not cluster.is_one_unreachable({"lives"})


def test_a_signal_while_ray_starts_stops_the_sweep_once_ray_has_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception amid `ray.init` could end the process in one of Ray's own threads."""
    came = []

    def init(**settings: object) -> None:
        signal.raise_signal(signal.SIGINT)
        came.append("started")

    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # else the sweep makes one
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: came.append("ended"))
    monkeypatch.setattr(cluster, "_keep_secrets_out_of_logs", lambda: None)
    # Who starts the tests in the background of a shell has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            cluster.running(verbose=True, insecure=True, command=""),
        ):
            came.append("ran")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == ["started", "ended"]
