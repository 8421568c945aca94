"""What is left of a sweep: what is made, how long that takes, how much it stores."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.plan.estimates import Estimates
from orchestrator.plan.history import History
from orchestrator.plan.jobs import DATA, Job, Plan
from orchestrator.plan.lanes import Lanes
from orchestrator.plan.past_sweeps import PastSweep, PastSweeps
from orchestrator.plan.resources import demand_of
from orchestrator.plan.room import Cluster
from orchestrator.plan.simulation import Work, seconds_to_the_end
from search_spaces import Stage
from search_spaces.scenarios import scenario_of
from search_spaces.specs.training import Optimiser

Activity = Literal["prepare", "train", "measure", "reuse"]
ACTIVITIES: Final[tuple[Activity, ...]] = ("prepare", "train", "measure", "reuse")
"""What a job does: `prepare` data, features or latents, or take weights as they are; `train`, and
measure what it trained; only `measure`; nothing, as all that it makes is there."""
TRAINED: Final = "trained weights"
BESIDE: Final = "MLflow, points, report"
_START_S: Final = 30.0
"""Seconds of a sweep in which no lane computes, where no earlier sweep tells."""


@dataclass(frozen=True)
class Forecast:
    """What is left of a sweep.

    Attributes:
        wall_s: seconds of the clock.
        work_s: seconds of computing, all lanes together.
        gpu_hours: GPUs times hours of computing.
        lanes: jobs at a time.
        past: the run that `lanes` and the time without computing are taken from; None if there is
            none.
        sizes: bytes to store by what they are.
        measured, planned: stages to make whose estimates rest on earlier stages, on planned costs.
    """

    wall_s: float
    work_s: float
    gpu_hours: float
    lanes: int
    past: PastSweep | None
    sizes: Mapping[str, float]
    measured: int
    planned: int


def activity(plan: Plan, job: Job) -> Activity:
    """What a job does.

    Args:
        plan: of what is left.
        job: of the whole space.
    """
    left = plan.jobs.get(job.key)
    if left is None:
        return "reuse"
    if left.stage.key in left.costs and training_of(plan, left) is not None:
        return "train"
    return "measure" if left.evaluations else "prepare"


def training_of(plan: Plan, job: Job) -> Optimiser | None:
    """How making a job's stage trains; None where it takes no training."""
    point, codec = job.subject.point, job.subject.codec
    if point is not None and point.released is None:
        space = plan.stages.of(job.subject.variant).space
        return scenario_of(point.scenario).training(space, point)
    if codec is None or point is not None or job.kind in DATA:
        return None
    return codec.train if codec.train.steps > 0 else None


def forecast(
    plan: Plan,
    name: str,
    sweeps: PastSweeps,
    history: History,
    planned_size: Callable[[Job, Stage], float],
    planned_beside: Callable[[int], float],
) -> Forecast:
    """What is left of a sweep.

    Args:
        plan: of what is left.
        name: the sweep's.
        sweeps: of the storage.
        history: of the storage.
        planned_size: bytes of a stage where the storage holds none of its kind.
        planned_beside: bytes besides stages of so many points where it holds none.
    """
    estimates, gpu_s = Estimates(history), 0.0
    work: list[Work] = []
    sizes: dict[str, float] = defaultdict(float)
    measured = 0
    for job in plan.jobs.values():
        does = activity(plan, job)
        for stage in job.stages:
            if stage.key not in job.costs:
                continue  # it is complete
            is_job = stage.key == job.key
            estimate = estimates.of(stage, job.costs[stage.key], is_job and does == "prepare")
            demand = demand_of(plan.space, job)
            ask, processes = demand.making if is_job else demand.evaluating
            gpu_s += estimate.seconds * ask.gpu * processes
            needs = job.needs if is_job else (*job.needs, job.key)
            work.append(Work(stage.key, needs, estimate.seconds, cost=estimate.seconds))
            size = planned_size(job, stage) if estimate.size is None else estimate.size
            is_weights = is_job and (does == "train" or job.subject.point is not None)
            sizes[TRAINED if is_weights else stage.kind] += size
            measured += estimate.rests_on > 0
    past = sweeps.latest(name)
    lanes = past.lanes if past is not None else _lanes_here(plan)
    wall_s = seconds_to_the_end(work, lanes)
    sizes[BESIDE] += _beside(plan, name, sweeps, planned_beside)
    return Forecast(
        wall_s + (_START_S if past is None else past.start_s) if work else 0.0,
        sum(each.seconds for each in work),
        gpu_s / 3600,
        lanes,
        past,
        {kind: size for kind, size in sizes.items() if size},
        measured,
        len(work) - measured,
    )


def seconds_of_jobs(plan: Plan, history: History) -> dict[str, float]:
    """Key -> seconds of the jobs whose stages are all alike earlier ones in the storage."""
    estimates, seconds = Estimates(history), dict[str, float]()
    for job in plan.jobs.values():
        prepares = activity(plan, job) == "prepare"
        made = [
            estimates.of(stage, job.costs[stage.key], prepares and stage.key == job.key)
            for stage in job.stages
            if stage.key in job.costs
        ]
        if made and all(estimate.rests_on for estimate in made):
            seconds[job.key] = sum(estimate.seconds for estimate in made)
    return seconds


def _lanes_here(plan: Plan) -> int:
    """Jobs at a time on a machine with this one's CPUs and enough GPUs for one job."""
    demands = {
        job.key: demand_of(plan.space, job) for job in plan.jobs.values() if job.kind not in DATA
    }
    gpus = max((ask.gpu * n for ask, n in (d.making for d in demands.values())), default=0.0)
    here = Cluster.of([{"CPU": float(os.cpu_count() or 1), "GPU": gpus}])
    return max(1, Lanes(demands, here).free())


def _beside(plan: Plan, name: str, sweeps: PastSweeps, planned: Callable[[int], float]) -> float:
    """Bytes besides stages that a sweep has not written yet."""
    is_new = name not in sweeps
    points = sum(is_new or not plan.is_complete(point) for point in plan.points)
    past = sweeps.beside_stages() if points else None
    if past is None:
        return planned(points) if points else 0.0
    return past.per_sweep * is_new + past.per_point * points
