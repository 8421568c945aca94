"""A sweep from its plan to its report.

plan --run_on_ray--> stages in the storage --events--> recorder: MLflow, growing points file
results --> recorder: points file, sweep.json, report, the parent run in MLflow
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from orchestrator.driver.jobs_on_ray import run_on_ray
from orchestrator.driver.plan_text import metrics_lacking
from orchestrator.driver.summary import print_summary
from orchestrator.driver.view import libraries_to, open_view
from orchestrator.execution.environment import FULL_DISK, is_disk_full, line_of
from orchestrator.execution.looking import looking
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import STARTING, Monitor
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.forecast import seconds_of_jobs
from orchestrator.plan.history import History
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.past_sweeps import json_object
from orchestrator.recording.recorder import Recorder
from orchestrator.recording.recorder_process import RecorderProcess
from orchestrator.recording.request import JobResults, Outcome, Request, SearchResult
from orchestrator.steering.inherited import inherit
from orchestrator.steering.words import number_of
from orchestrator.storage import provenance
from orchestrator.storage.cleanup import remove_leases, remove_lost_uploads, remove_work_of
from orchestrator.storage.lease import Lease, LeaseLapsedError, LeaseLostError, only_driver
from orchestrator.storage.provenance import CHECKSUMS
from orchestrator.storage.references import record_references, wait_for_deletion
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import DRIVER_LOOK_S, Inbox
from orchestrator.tracking.points_file import MissingPoint
from search_spaces import operating_points
from search_spaces.settings.secrets import print_error, printable, without_secrets

log = logging.getLogger(__name__)


Search = Callable[[Request, Monitor], SearchResult]


def run(request: Request, search: Search | None = None) -> bool:
    """Run, log and report a sweep, and then its search.

    Where the disk is full, the storage stays away, or another driver has taken the sweep, a line
    says so.

    Args:
        search: called once every wanted point is complete, while the sweep is held and shown; None
            for a space without one.

    Returns:
        Whether every wanted point is complete or cancelled, and a trial of the search complete.

    Raises:
        SweepHeldError: another driver runs it.
        ClusterUnfitError: as of `run_on_ray`.
        OpenClusterError, TokenRefusedError: as of `cluster.running`.
    """
    try:
        return _run_alone(request, search)
    except LeaseLapsedError as error:
        print_error(str(error))
        again = "once the storage answers, the same command continues"
        print(f"{again}:\n  {request.command}", file=sys.stderr)
        return False
    except LeaseLostError as error:
        print_error(f"{error}: another driver runs this sweep by now")
        return False
    except Exception as error:
        if not is_disk_full(error):
            raise
        print_error(f"{FULL_DISK}: {line_of(error)}")
        print(f"make room; the same command continues:\n  {request.command}", file=sys.stderr)
        return False


def _run_alone(request: Request, search: Search | None) -> bool:
    store, result = request.store, SearchResult(True, "")
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(only_driver(store, request.name, _say))
        inbox = Inbox(store, request.name, lease.number)
        store.remove_leftovers()
        request, inherited = _with_added(request, inbox)
        fingerprints = provenance.fingerprints(request.space, store.local(CHECKSUMS))
        _record_references(request, fingerprints)
        plan = Plan(request.space, request.points, fingerprints, store)
        states = JobStates()
        # Of a remote storage, each manifest would cost the start a request.
        known = {} if store.remote else seconds_of_jobs(plan, History(store))
        left = TimeLeft(states, known)
        view = open_view(request.name, request.verbose, states, left)
        stack.callback(view.close)
        if not request.verbose:
            stack.enter_context(libraries_to(request.driver_log))
        monitor = stack.enter_context(
            Monitor(
                plan,
                store,
                request.name,
                request.command,
                view,
                states,
                left,
                lease,
                request.notify,
            )
        )
        for line in filter(None, (_replaced(request), inherited)):
            monitor.note(line)
        outcome = _run(request, plan, monitor, lease, inbox)
        # Orphans of a killed driver may have been alive the first time; and it may have been
        # killed between making a stage and removing its working directory.
        try:
            inbox.clear()
            store.remove_leftovers()
            _clean(store, plan, is_complete=not (outcome.missing or outcome.cancelled))
        except Exception:  # the next run deletes what is left
            log.warning("the clean-up failed", exc_info=True)
        if search is not None and not (outcome.missing or outcome.cancelled):
            reason = "the jobs of this sweep are over, and its search runs"
            with looking(partial(inbox.refuse_all, reason), DRIVER_LOOK_S, "requests"):
                result = search(request, monitor)
        reason = "" if result.has_best else "no trial of the search was trained to its end"
        monitor.finish(len(outcome.missing), reason)
    print_summary(replace(request, command=monitor.command), plan, outcome)
    if result.text:
        print(f"\n{result.text}", flush=True)
    if outcome.error is not None:
        raise outcome.error
    return not outcome.missing and result.has_best


def _say(line: str) -> None:
    if line:  # an empty one says that the wait is over
        print(printable(line), flush=True)


def _replaced(request: Request) -> str:
    """A line where the sweep of this name was another space's before; else empty."""
    recorded = json_object(request.store.read(f"{request.name}/sweep.json")).get("space")
    before = recorded.get("name") if isinstance(recorded, dict) else None
    if not isinstance(before, str) or before == request.space.name:
        return ""
    return (
        f"{request.name} was a sweep of the space {printable(before)}: its points file and report "
        "are replaced, its stages stay; --name gives this sweep another name"
    )


def _with_added(request: Request, inbox: Inbox) -> tuple[Request, str]:
    """A request with the points that were added to the sweep before its driver died.

    Returns:
        The request, and a line about these points; empty if there are none.
    """
    added = inbox.read_added()
    if added is None or request.space.search is not None:
        return request, ""
    command = printable(without_secrets(added["command"]))
    try:
        mine = request.space, request.points, request.command
        inheritance = inherit(*mine, added, request.store)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = line_of(error)
        return request, f"not taken over, as it was added to another space ({reason}): {command}"
    points = number_of(inheritance.count)
    larger = replace(
        request,
        space=inheritance.space,
        points=inheritance.points,
        command=inheritance.command,
    )
    line = (
        f"{points} taken over that were added to the driver before; cancel what is not wanted; "
        f"the command that continues all: {larger.command}"
    )
    return larger, line if inheritance.count else ""


def _record_references(request: Request, fingerprints: Mapping[str, str]) -> None:
    """Record which stages the sweep refers to, before it looks which are complete."""
    space, store = request.space, request.store
    whole = Plan(space, operating_points(space), fingerprints, None)
    stages = [stage.path for job in whole.jobs.values() for stage in job.stages]
    record_references(store, request.name, stages, space.search is not None)
    wait_for_deletion(store)


def _clean(store: Store, plan: Plan, is_complete: bool) -> None:
    """Delete what the jobs of a sweep need no more."""
    made = [stage for job in plan.jobs.values() for stage in job.stages]
    done = {*plan.done, *(stage.key for stage in made if is_complete)}
    remove_work_of(store, done)
    if is_complete:
        passes = {made.key for job in plan.jobs.values() for made in job.passes}
        remove_leases(store, done | passes | plan.jobs.keys())
    if store.remote:
        remove_lost_uploads(store, {stage.kind for stage in made})


def _run(request: Request, plan: Plan, monitor: Monitor, lease: Lease, inbox: Inbox) -> Outcome:
    plan.complete_points()  # from now on, the plan knows them
    # Without a job, nothing runs that recording could disturb.
    open_recorder = RecorderProcess if plan.jobs else Recorder
    with open_recorder(request, plan, monitor.note, lease) as recorder:
        results = JobResults()
        if not plan.jobs:
            monitor.note(f"nothing has to be made: {number_of(len(plan.points))} stored")
        else:
            for line in metrics_lacking(request.space):
                monitor.note(line)
            monitor.note(STARTING)
            results = run_on_ray(request, plan, monitor, recorder, lease, inbox)
        missing = _missing_points(request.store, plan, results)
        monitor.note("writing the report")
        lease.check()
        return recorder.report(results, missing)


def _missing_points(store: Store, plan: Plan, results: JobResults) -> dict[str, MissingPoint]:
    """The wanted points that are not complete, and that nobody has cancelled, by key."""
    missing = {}
    for point in plan.points:
        key = plan.key(point)
        if key in results.cancelled or plan.is_complete(point):
            continue
        reason = results.failed.get(key, "was not run")
        log = _failure_log(store, plan, plan.jobs.get(key), results)
        missing[key] = MissingPoint(point, reason, log)
    return missing


def _failure_log(store: Store, plan: Plan, job: Job | None, results: JobResults) -> str:
    """The log of a failed job, or of the failed job that it needed; empty if there is none."""
    while job is not None:
        path = f"logs/{job.key}.log"
        if store.read(path) is not None:
            return store.path(path)
        job = next((plan.jobs[need] for need in job.needs if need in results.failed), None)
    return ""
