"""Clusters and demands for tests of the schedule."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import Demand
from orchestrator.plan.room import Ask, Cluster


def one_node(cpu: float, gpu: float = 0) -> Cluster:
    """One node."""
    return Cluster.of([{"CPU": cpu, "GPU": gpu}])


def alike(cpu: float = 1, gpu: float = 0, processes: int = 1) -> Callable[[Job], Demand]:
    """Every job asks for the same, all the time."""
    group = Ask(gpu, cpu), processes
    return lambda job: Demand(group, group)
