"""What fits on a cluster is counted node by node."""

from __future__ import annotations

import pytest

from orchestrator.plan.resources import Ask, lane_ask, shortage, trial_resources, usable
from search_spaces import Space, load_space


def space(workers: int, cpus: int, gpus: float = 0) -> Space:
    names = ("workers_per_point", "cpus_per_worker", "gpus_per_worker")
    values = zip(names, (workers, cpus, gpus), strict=True)
    return load_space("smoke", [f"resources.{name}={value}" for name, value in values])


def node(cpu: float, gpu: float = 0) -> dict[str, float]:
    return {"CPU": cpu, "GPU": gpu}


@pytest.mark.parametrize(
    ("wanted", "nodes", "lanes"),
    [
        (space(0, 1), [node(2)], 2),
        (space(0, 2), [node(3), node(3), node(3)], 3),  # by the sum, four
        (space(1, 4), [node(2), node(2), node(5)], 1),  # by the sum, two
        (space(2, 2), [node(2), node(2), node(2)], 1),  # its workers may stand on two nodes
        (space(1, 1, 1), [node(8), node(8, 1)], 1),
        (space(1, 1, 0.5), [node(8, 1), node(1, 1)], 3),  # the second has one CPU
        (space(1, 4), [node(0), node(8)], 2),  # a head without CPUs
        (space(1, 4), [node(3), node(3)], 0),
    ],
)
def test_lanes_are_what_fits_on_nodes(
    wanted: Space, nodes: list[dict[str, float]], lanes: int
) -> None:
    assert lane_ask(wanted).lanes(usable(wanted, nodes), 99) == lanes
    assert (shortage(wanted, nodes) is None) == (lanes > 0)


def test_a_cluster_whose_nodes_fit_is_its_sum() -> None:
    nodes = [node(8, 4), node(64)]
    assert usable(space(1, 2, 1), nodes) == Ask(72, 4)


def test_processes_that_wait_for_workers_are_spread_by_their_memory() -> None:
    local = load_space("smoke", ["resources.workers_per_point=0"])
    workers = load_space("smoke", ["resources.workers_per_point=2"])
    assert "memory" not in trial_resources(local)
    asked = trial_resources(workers)
    assert asked["CPU"] == 0
    assert 2**29 < asked["memory"] < 2**30
