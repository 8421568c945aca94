"""The jobs of a plan on Ray, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.looking import looking
from orchestrator.execution.trials.pickled_jobs import PickledJobs
from orchestrator.monitoring.head import head_watched
from orchestrator.monitoring.monitor import Monitor
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.jobs import Plan
from orchestrator.plan.resources import demand_of, kinds_by_ask
from orchestrator.plan.room import Cluster, Group
from orchestrator.recording.recorder import Records
from orchestrator.recording.request import JobResults, Request
from orchestrator.scheduling.schedule import Schedule
from orchestrator.storage import provenance
from orchestrator.storage.lease import Lease
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import ANSWER_S, DRIVER_LOOK_S, Inbox
from search_spaces.specs.evaluation import WorkerResources

if TYPE_CHECKING:  # both import Ray
    from orchestrator.execution.evaluators import DriverPool
    from orchestrator.execution.trials.runner import Runner
    from orchestrator.steering.steering import Steering


class ClusterUnfitError(RuntimeError):
    """The cluster has no room for some kind of jobs, or its nodes see other files; a line each."""


def run_on_ray(
    request: Request,
    plan: Plan,
    monitor: Monitor,
    recorder: Records,
    lease: Lease,
    inbox: Inbox,
) -> JobResults:
    """Run a plan's jobs to their end.

    Args:
        recorder: gets the events of jobs.
        lease: of the sweep.
        inbox: with requests to this driver.

    Raises:
        ClusterUnfitError: some kind of jobs has no room, or a node sees other files.
        LeaseLostError: another driver runs the sweep.
        OpenClusterError, TokenRefusedError: as of `cluster.running`.
    """
    space = plan.space
    with cluster.running(request.verbose, request.insecure, request.command) as head:
        # Only now: importing Ray takes seconds, and Ray then reads the environment.
        from orchestrator.execution.driver_keys import removed_at_the_end
        from orchestrator.execution.evaluators import DriverPool
        from orchestrator.execution.fit_nodes import CHECKED
        from orchestrator.execution.trials.added_jobs import ADDED
        from orchestrator.execution.trials.placement_groups import orphans_freed
        from orchestrator.execution.trials.runner import Runner
        from orchestrator.execution.trials.tune import tune_jobs

        kinds = kinds_by_ask(space, plan.jobs.values())
        fit_nodes = check_cluster(request, kinds, plan.fingerprints, monitor, head)
        settings = Settings(
            space, request.store.uri, PickledJobs(plan.jobs), provenance.code(), fit_nodes
        )
        schedule = Schedule(plan.jobs, partial(demand_of, space), cluster.nodes(), plan.done)
        lanes = schedule.free_lanes()
        monitor.plan(plan.jobs, lanes)

        listen = listener(plan, monitor, recorder)
        look = _cluster_look(request.store, plan, monitor, fit_nodes)
        pool = DriverPool()
        pool.open(settings)
        runner = Runner(settings, schedule, listen, look, pool.keep, lease)
        steering = _steering(request, plan, runner, pool, recorder, inbox, listen, monitor)
        cluster.ask_autoscaler(schedule.processes_that_could_run())
        monitor.use_ray(schedule.gpus_in_use)
        try:
            with (
                orphans_freed(),
                removed_at_the_end(ADDED, CHECKED),
                looking(steering.look, DRIVER_LOOK_S, "requests") as requests,
                head_watched(head, monitor.end_without_head),
            ):
                tune_jobs(runner, request.verbose)
            _wait_for(requests, monitor)  # what is being added needs Ray
        finally:
            monitor.leave_ray()
            cluster.ask_autoscaler([])
    cancelled = frozenset(schedule.cancelled)
    return JobResults(frozenset(schedule.done), dict(schedule.failed), cancelled, lanes)


def _wait_for(requests: Thread, monitor: Monitor) -> None:
    """Let the thread of requests end what it does, within a limit."""
    requests.join(ANSWER_S)
    if requests.is_alive():
        monitor.note("a request to this driver takes too long, and is not waited for")


def _steering(
    request: Request,
    plan: Plan,
    runner: Runner,
    pool: DriverPool,
    recorder: Records,
    inbox: Inbox,
    listen: JobListener,
    monitor: Monitor,
) -> Steering:
    """What carries out the requests to this driver."""
    from orchestrator.steering.steering import SteeredSweep, Steering

    steered = SteeredSweep(
        name=request.name,
        store=request.store,
        plan=plan,
        runner=runner,
        open_pool=pool.open,
        monitor=monitor,
        options=request.options,
        listener=listen,
        on_complete=recorder.add_complete,
        on_growth=recorder.grow,
    )
    return Steering(inbox, steered)


def _cluster_look(
    store: Store, plan: Plan, monitor: Monitor, fit_nodes: frozenset[str]
) -> Callable[[Sequence[Group]], Cluster]:
    """Looks at the cluster while jobs run: asks an autoscaler, checks nodes, tells shortages."""
    from orchestrator.execution.node_check import NewNodes

    new_nodes = NewNodes(lambda: (plan.space, plan.fingerprints), store, monitor.note, fit_nodes)
    jobs, asks = plan.jobs, kinds_by_ask(plan.space, plan.jobs.values())

    def look(that_could_run: Sequence[Group]) -> Cluster:
        nonlocal jobs, asks
        if plan.jobs is not jobs:  # some were added
            jobs, asks = plan.jobs, kinds_by_ask(plan.space, plan.jobs.values())
        cluster.ask_autoscaler(that_could_run)
        new_nodes.look()
        shortages = cluster.shortages(asks)
        if shortages:
            monitor.need_person("cluster_too_small", "\n".join(shortages))
        return cluster.nodes(without=new_nodes.unfit)

    return look


def check_cluster(
    request: Request,
    kinds: Mapping[WorkerResources, Sequence[str]],
    fingerprints: Mapping[str, str],
    monitor: Monitor,
    head: str | None,
) -> frozenset[str]:
    """Make sure that the cluster has room for all jobs, and that its nodes see the same files.

    Args:
        kinds: of `cluster.shortages`.
        fingerprints: `provenance.fingerprints` of the space.
        head: address of the head of a cluster that was joined.

    Returns:
        The ids of its nodes.

    Raises:
        ClusterUnfitError: it has not, or they do not; a line per mistake.
    """
    from orchestrator.execution.node_check import NODE_ANSWER_S, nodes_with_other_files

    if head is not None:
        monitor.note(cluster.joined(head))
    nodes = cluster.node_ids()
    problems = cluster.shortages(kinds)
    if not problems and len(nodes) > 1:
        monitor.note(
            "asking every node whether it sees the storage, the models and the data; each has "
            f"{NODE_ANSWER_S / 60:g} minutes to answer"
        )
        problems = nodes_with_other_files(request.space, request.store, fingerprints)
    if problems:
        raise ClusterUnfitError("\n".join(problems))
    return nodes


def listener(plan: Plan, monitor: Monitor, recorder: Records) -> JobListener:
    """Shows and records the events of jobs."""

    def listen(event: JobEvent) -> None:
        monitor.job_event(event)
        if event.kind == "finished":
            plan.job_done(event.key)
        recorder.listen(event)

    return listen
