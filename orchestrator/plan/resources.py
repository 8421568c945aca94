"""What jobs ask of Ray, by their kind, and whether the cluster can ever give it.

A *lane* is room on the cluster for one job that Ray Tune runs, with all its workers. A lane's CPU
is asked for as 0.95: the rest of each CPU is what the actors of a Ray Data pass ask for. So a pass
always has room beside any number of lanes, on 2 CPUs as on 200, and neither can wait for the other
for ever. In the second or two where both compute, the operating system shares the cores. GPUs are
not shared between lanes and passes: the schedule sets them aside (schedule.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.plan.jobs import Job
from orchestrator.plan.room import Ask, Cluster, Group
from search_spaces import Space
from search_spaces.specs.evaluation import EVALUATION, WorkerResources

LANE_SHARE = 0.95
DATA_CPUS = 0.05
TRIAL_MEMORY = 700 * 2**20
"""Bytes that a process takes which only waits for workers, its imports most of all."""
FEATURES: Final = "features"
_DATA_SET: Final = WorkerResources(workers_per_point=0)
"""Of jobs that make a world or a benchmark: no model, so no GPU."""


def kind_of(job: Job) -> str:
    """The kind in `resources.by_kind` that a job belongs to; empty for data sets."""
    point = job.subject.point
    if job.kind == "point" and point is not None:
        return point.scenario
    return {"codec": "codec", "features": FEATURES, "text": FEATURES, "latents": FEATURES}.get(
        job.kind, ""
    )


def resources_of(space: Space, job: Job) -> WorkerResources:
    """What a job's training asks for, or the making of its data."""
    kind = kind_of(job)
    return space.resources.of(kind) if kind else _DATA_SET


def ask_of(resources: WorkerResources) -> Ask:
    """What one worker asks for."""
    memory = resources.memory_gb_per_worker or 0
    return Ask(
        resources.gpus_per_worker,
        resources.cpus_per_worker,
        memory * 2**30,
        resources.accelerator,
    )


def training_group(space: Space, job: Job) -> Group:
    """The processes of a job while it trains, or makes its data."""
    resources = resources_of(space, job)
    return ask_of(resources), resources.processes


@dataclass(frozen=True)
class Demand:
    """The processes of a job.

    Attributes:
        making: while it trains, or makes its data.
        evaluating: behind that.
    """

    making: Group
    evaluating: Group


def demand_of(space: Space, job: Job) -> Demand:
    """The processes of a job, for the schedule."""
    return Demand(training_group(space, job), evaluation_group(space, job))


def is_evaluated_in_trial(space: Space, job: Job) -> bool:
    """Whether the process that trained a point evaluates it."""
    return resources_of(space, job).workers_per_point == 0


def evaluation_ask(space: Space) -> Ask:
    """What one evaluator asks for."""
    return ask_of(space.resources.of(EVALUATION))


def evaluation_group(space: Space, job: Job) -> Group:
    """The processes of a job while it is evaluated."""
    if is_evaluated_in_trial(space, job):
        return training_group(space, job)
    return evaluation_ask(space), space.resources.of(EVALUATION).processes


def actor_ask(space: Space) -> Ask:
    """What an actor of a Ray Data pass asks for that computes features or latents."""
    return replace(ask_of(space.resources.of(FEATURES)), cpu=DATA_CPUS)


def trial_resources(space: Space, job: Job) -> dict[str, float]:
    """What the process of a Ray Tune trial asks Ray for.

    With Ray Train workers it asks for no CPU: a trial that held one while it waits for workers
    could wait for another trial that does the same. For its memory it asks, by which Ray spreads
    such processes over the nodes.
    """
    resources = resources_of(space, job)
    if resources.workers_per_point:
        return {"CPU": 0, "memory": TRIAL_MEMORY}
    return ask_of(resources).ray_resources(LANE_SHARE)


def asks_by_kind(space: Space, jobs: Iterable[Job]) -> dict[str, WorkerResources]:
    """What the kinds of some jobs ask for; empty is the kind of data sets."""
    kinds: dict[str, WorkerResources] = {}
    for job in jobs:
        kinds.setdefault(kind_of(job), resources_of(space, job))
        if job.evaluations and not is_evaluated_in_trial(space, job):
            kinds.setdefault(EVALUATION, space.resources.of(EVALUATION))
    return kinds


def kinds_by_ask(space: Space, jobs: Iterable[Job]) -> dict[WorkerResources, list[str]]:
    """The kinds that ask for the same, as people call them."""
    kinds: dict[WorkerResources, list[str]] = {}
    for kind, resources in asks_by_kind(space, jobs).items():
        kinds.setdefault(resources, []).append(kind or "data sets")
    return kinds


def shortages_of(asks: Mapping[WorkerResources, Sequence[str]], cluster: Cluster) -> list[str]:
    """Why jobs of some kinds can never run on a cluster, a line per ask.

    Args:
        asks: of `kinds_by_ask`.
    """
    lines = []
    for resources, kinds in asks.items():
        ask = ask_of(resources)
        fitting = cluster.room_for(ask, limit=resources.processes)
        if fitting < resources.processes:
            settings = ", ".join(
                f"{name} = {getattr(resources, name):g}"
                for name in ("workers_per_point", "cpus_per_worker", "gpus_per_worker")
            )
            lines.append(
                f"resources: {', '.join(kinds)}: {resources.processes} x ({ask}) for each "
                f"({settings}), but the cluster has room for {fitting} of these; its nodes: "
                f"{', '.join(map(str, cluster.nodes))}"
            )
    return lines
