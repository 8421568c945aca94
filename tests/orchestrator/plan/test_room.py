"""What fits on nodes: counted by hand, and against a search over all placements."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.room import Ask, Cluster, Group


def node(cpu: float, gpu: float = 0, **more: float) -> dict[str, float]:
    return {"CPU": cpu, "GPU": gpu, **more}


H100 = {"accelerator_type:H100": 1.0}


@pytest.mark.parametrize(
    ("ask", "nodes", "count"),
    [
        (Ask(cpu=1), [node(2)], 2),
        (Ask(cpu=2), [node(3), node(3), node(3)], 3),  # by the sum, four
        (Ask(cpu=4), [node(2), node(2), node(5)], 1),
        (Ask(1, 1), [node(8), node(8, 1)], 1),
        (Ask(0.5, 1), [node(8, 1), node(1, 1)], 3),  # the second has one CPU
        (Ask(0.6, 1), [node(8, 2)], 2),  # a part of a GPU is a part of one: by the sum, three
        (Ask(2, 1), [node(8, 3), node(8, 1)], 1),  # several GPUs are of one node
        (Ask(cpu=4), [node(0), node(8)], 2),  # a head without CPUs
        (Ask(cpu=4), [node(3), node(3)], 0),
        (Ask(cpu=1, memory=3e9), [node(8, memory=7e9), node(8, memory=2e9)], 2),
        (Ask(1, 1, accelerator="H100"), [node(8, 4), {**node(8, 2), **H100}], 2),
        (Ask(cpu=0.1), [node(0.3)], 3),  # rounding
    ],
)
def test_processes_find_room_node_by_node_and_gpu_by_gpu(
    ask: Ask, nodes: list[dict[str, float]], count: int
) -> None:
    assert Cluster.of(nodes).room_for(ask) == count
    assert Cluster.of(nodes).room_for(ask, limit=1) == min(1, count)


@pytest.mark.parametrize(
    ("beside", "count"),
    [
        ([], 4),
        ([(Ask(1, 1), 1)], 3),
        ([(Ask(2, 1), 1)], 2),
        ([(Ask(0.25, 1), 2)], 3),  # both on one GPU
        ([(Ask(2, 1), 3)], 0),  # the third waits
        ([(Ask(cpu=6), 2)], 2),  # CPUs of the second node are gone
    ],
)
def test_others_take_their_room_first(beside: list[Group], count: int) -> None:
    cluster = Cluster.of([node(8, 2), node(6, 2)])
    assert cluster.room_for(Ask(1, 1), beside) == count


def test_a_group_may_be_given_in_pieces() -> None:
    cluster, ask = Cluster.of([node(8)]), Ask(cpu=2)
    assert cluster.room_for(ask, [(ask, 1), (ask, 2)]) == cluster.room_for(ask, [(ask, 3)]) == 1


sizes = st.integers(0, 3)


@given(
    st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3),
    st.tuples(st.integers(1, 3), sizes),
    st.integers(1, 6),
)
def test_alike_processes_are_placed_as_a_search_places_them(
    nodes: list[tuple[int, int]], ask: tuple[int, int], count: int
) -> None:
    """Against every assignment of processes to nodes."""
    cpu, gpu = ask

    def fits(assignment: tuple[int, ...]) -> bool:
        return all(
            cpu * assignment.count(n) <= cpus and gpu * assignment.count(n) <= gpus
            for n, (cpus, gpus) in enumerate(nodes)
        )

    places = range(len(nodes))
    best = max(
        (n for n in range(count + 1) if any(map(fits, itertools.product(places, repeat=n)))),
        default=0,
    )
    cluster = Cluster.of(node(*sizes) for sizes in nodes)
    assert cluster.room_for(Ask(gpu, cpu), limit=count) == best


@given(
    st.lists(st.tuples(st.integers(1, 8), sizes), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 3)), max_size=4),
)
def test_no_node_is_given_more_than_it_has(
    nodes: list[tuple[int, int]], groups: list[tuple[int, int, int]]
) -> None:
    """Processes that find room one after the other, the largest first, fit into the sum."""
    cluster = Cluster.of(node(*sizes) for sizes in nodes)
    asks = sorted(((Ask(gpu, cpu), count) for cpu, gpu, count in groups), reverse=True)
    placed: list[Group] = []
    for ask, count in asks:
        placed.append((ask, cluster.room_for(ask, placed, count)))
    assert sum(ask.cpu * count for ask, count in placed) <= cluster.cpus
    assert sum(ask.gpu * count for ask, count in placed) <= cluster.gpus


def test_an_ask_in_rays_names() -> None:
    ask = Ask(0.5, 2, 3 * 2**30, "A100")
    assert ask.ray_resources(0.95) == {
        "CPU": 1.9,
        "GPU": 0.5,
        "memory": 3 * 2**30,
        "accelerator_type:A100": 0.001,
    }
    assert Ask(cpu=1).ray_resources() == {"CPU": 1}
