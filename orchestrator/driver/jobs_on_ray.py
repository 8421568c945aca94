"""The jobs of a plan on Ray, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.driver.point_log import PointLog
from orchestrator.driver.request import Request
from orchestrator.driver.view import View
from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.jobs import Plan
from orchestrator.plan.pickled_jobs import PickledJobs
from orchestrator.plan.resources import Ask, lane_ask
from orchestrator.plan.schedule import Schedule
from orchestrator.storage import provenance
from orchestrator.storage.lease import Lease


class ClusterUnfitError(RuntimeError):
    """The cluster is too small for any point, or its nodes see other files; a line per mistake."""


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


def run_on_ray(
    request: Request, plan: Plan, view: View, point_log: PointLog, lease: Lease
) -> JobResults:
    """Run a plan's jobs to their end.

    Args:
        lease: of the sweep.

    Raises:
        ClusterUnfitError: no point can run on the cluster.
        LeaseLostError: another driver runs the sweep.
        OpenClusterError: the cluster asks for no token.
    """
    space = plan.space
    settings = Settings(space, request.store.uri, PickledJobs(plan.jobs), provenance.code())
    with cluster.running(request.verbose, request.insecure):
        # Only now: importing Ray takes seconds, and Ray then reads the environment.
        from orchestrator.execution.evaluators import open_pool
        from orchestrator.execution.node_check import NewNodes, nodes_with_other_files
        from orchestrator.execution.trials.placement_groups import orphans_freed
        from orchestrator.execution.trials.runner import Runner
        from orchestrator.execution.trials.tune import tune_jobs

        capacity, problem = cluster.capacity(space)
        if problem:
            raise ClusterUnfitError(problem)
        if len(cluster.nodes()) > 1:
            view.note("asking every node whether it sees the storage, the models and the data")
            problems = nodes_with_other_files(space, request.store, plan.fingerprints)
            if problems:
                raise ClusterUnfitError("\n".join(problems))
        new_nodes = NewNodes(space, request.store, plan.fingerprints, view.note)
        schedule = Schedule(plan.jobs, lane_ask(space), capacity, plan.done)
        lanes = schedule.free_lanes()
        view.plan(plan.jobs, lanes)

        def look(lanes_that_could_run: int) -> Ask:
            cluster.ask_autoscaler(space, lanes_that_could_run)
            new_nodes.look()
            return cluster.capacity(space)[0]

        runner = Runner(
            settings,
            schedule,
            listener(plan, view, point_log),
            look,
            open_pool(settings),
            lease,
        )
        cluster.ask_autoscaler(space, schedule.lanes_that_could_run())
        try:
            with orphans_freed():
                tune_jobs(runner, request.verbose)
        finally:
            cluster.ask_autoscaler(space, 0)
    return JobResults(frozenset(schedule.done), dict(schedule.failed), lanes)


def listener(plan: Plan, view: View, point_log: PointLog) -> JobListener:
    """Shows the events of jobs, and logs operating points that are complete or failed."""

    def listen(event: JobEvent) -> None:
        view.job_event(event)
        if event.kind == "finished":
            # The runner has seen its stages, so nobody asks the storage for them again.
            plan.done.update({stage.key: stage for stage in plan.jobs[event.key].stages})
        for key in event.others:
            withdrawn = plan.jobs[key].subject.point
            if withdrawn is not None:
                point_log.add_failed(withdrawn, event.reason)
        point = plan.jobs[event.key].subject.point
        if point is None:
            return
        if event.kind == "failed":
            point_log.add_failed(point, event.reason)
        elif event.kind == "finished" and plan.is_complete(point):
            point_log.add(point)

    return listen
