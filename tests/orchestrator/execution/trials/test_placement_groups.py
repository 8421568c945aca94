"""The CPUs of a training whose controller is lost are free again: on a real, small Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table

from orchestrator.execution import cluster
from orchestrator.execution.trials import placement_groups
from orchestrator.execution.trials.placement_groups import free_orphans, orphans_freed
from tests.orchestrator.waiting import wait_until


class Controller:
    """Makes a placement group, as a controller of Ray Train does."""

    def place(self) -> tuple[int, Any]:
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return os.getpid(), group


@pytest.fixture
def small_ray() -> Iterator[None]:
    """Three CPUs, each of which a group takes: the driver's, and those of two controllers."""
    cluster.set_environment(verbose=False)
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def free_cpus() -> float:
    resources: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 0)


def state_of(group: Any) -> str:
    state: str = placement_group_table(group)["state"]
    return state


@pytest.mark.slow
def test_only_the_placement_group_of_a_lost_controller_is_freed(
    small_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_groups, "LOOK_S", 0.1)
    drivers_group = placement_group([{"CPU": 1}])
    lost, alive = [ray.remote(Controller).options(num_cpus=0).remote() for _ in range(2)]
    (process, lost_group), (_, group) = ray.get([lost.place.remote(), alive.place.remote()])
    ray.get(drivers_group.ready())
    free_orphans()
    assert [state_of(g) for g in (drivers_group, lost_group, group)] == ["CREATED"] * 3
    with orphans_freed():
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: state_of(lost_group) == "REMOVED", 60)
    wait_until(lambda: free_cpus() == 1, 30)
    assert [state_of(g) for g in (drivers_group, group)] == ["CREATED"] * 2
