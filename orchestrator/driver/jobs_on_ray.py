"""The jobs of a plan on Ray, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.driver.point_log import PointLog
from orchestrator.driver.request import Request
from orchestrator.driver.view import View
from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.jobs import Plan
from orchestrator.plan.resources import lane_ask
from orchestrator.plan.schedule import Schedule
from orchestrator.storage import provenance


class ClusterTooSmallError(RuntimeError):
    """The cluster can never run a point of this space."""


@dataclass(frozen=True)
class JobResults:
    """What came of a plan's jobs.

    Attributes:
        done: keys of the jobs that were run.
        failed: key -> reason.
        lanes: how many jobs ran at a time at most.
    """

    done: frozenset[str] = frozenset()
    failed: dict[str, str] = field(default_factory=dict)
    lanes: int = 0


class SweepListener:
    """Shows the events of jobs, and logs operating points that are complete or failed."""

    def __init__(self, plan: Plan, view: View, point_log: PointLog) -> None:
        self._plan, self._view, self._point_log = plan, view, point_log

    def job_started(self, key: str) -> None:
        """Show it."""
        self._view.job_started(key)

    def job_progressed(self, key: str, phase: str, step: float, steps: float) -> None:
        """Show it."""
        self._view.job_progressed(key, phase, step, steps)

    def job_retried(self, key: str, reason: str) -> None:
        """Show it."""
        self._view.job_retried(key, reason)

    def job_finished(self, key: str) -> None:
        """Show it, and log the job's operating point if all its evaluations are complete."""
        self._view.job_finished(key)
        point = self._plan.jobs[key].point
        if point is not None and self._plan.is_complete(point):
            self._point_log.add(point)

    def job_failed(self, key: str, reason: str) -> None:
        """Show it, and log that the job's operating point failed."""
        self._view.job_failed(key, reason)
        point = self._plan.jobs[key].point
        if point is not None:
            self._point_log.add_failed(point, reason)


def run_on_ray(request: Request, plan: Plan, view: View, point_log: PointLog) -> JobResults:
    """Run a plan's jobs to their end.

    Raises:
        ClusterTooSmallError: the cluster is too small for any point.
    """
    space = plan.space
    settings = Settings(space, request.store.uri, plan.jobs, provenance.code())
    with cluster.running(request.verbose):
        # Only now: importing Ray takes seconds, and Ray then reads the environment.
        from orchestrator.execution.evaluators import open_pool
        from orchestrator.execution.runner import Runner
        from orchestrator.execution.tune import tune_jobs

        capacity, problem = cluster.capacity(space)
        if problem:
            raise ClusterTooSmallError(problem)
        nodes = len(cluster.nodes())
        if nodes > 1 and not request.store.remote:
            view.note(f"all {nodes} nodes of the cluster must see {request.store.uri}")
        schedule = Schedule(plan.jobs, lane_ask(space), capacity)
        lanes = schedule.free_lanes()
        view.plan(plan.jobs, lanes)
        listener = SweepListener(plan, view, point_log)
        runner = Runner(
            settings, schedule, listener, lambda: cluster.capacity(space)[0], open_pool(settings)
        )
        tune_jobs(runner, request.verbose)
    return JobResults(frozenset(schedule.done), dict(schedule.failed), lanes)
