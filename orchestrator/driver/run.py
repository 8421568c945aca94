"""A sweep from its plan to its report.

plan --run_on_ray--> stages in the storage --PointLog--> MLflow, while it runs
all complete points --> points file, sweep.json --> report --> the parent run in MLflow
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import cast

from orchestrator.driver.jobs_on_ray import JobResults, run_on_ray
from orchestrator.driver.plan_text import metrics_lacking
from orchestrator.driver.point_log import PointLog
from orchestrator.driver.request import Outcome, Request, SearchResult, Timing
from orchestrator.driver.summary import left_out_lines, print_summary
from orchestrator.driver.view import libraries_to, open_view
from orchestrator.execution.environment import FULL_DISK, is_disk_full, line_of
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.monitor import STARTING, Monitor
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.forecast import seconds_of_jobs
from orchestrator.plan.history import History
from orchestrator.plan.jobs import Job, Plan
from orchestrator.storage import provenance
from orchestrator.storage.cleanup import remove_leases, remove_lost_uploads, remove_work_of
from orchestrator.storage.lease import Lease, LeaseLostError, only_driver
from orchestrator.storage.outage import patiently
from orchestrator.storage.provenance import CHECKSUMS
from orchestrator.storage.references import record_references, wait_for_deletion
from orchestrator.storage.store import Store
from orchestrator.tracking.growing_points import GrowingPoints
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import AwayError, RefusedError, storage_answering
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import default_uri
from orchestrator.tracking.points_file import MissingPoint, skipped, write_sweep
from orchestrator.tracking.sweep_identity import ID_FILE
from search_spaces import operating_points

log = logging.getLogger(__name__)


Search = Callable[[Request, Monitor], SearchResult]


def run(request: Request, search: Search | None = None) -> bool:
    """Run, log and report a sweep, and then its search.

    Where the disk is full, or another driver has taken the sweep, a line says so.

    Args:
        search: called once every wanted point is complete, while the sweep is held and shown; None
            for a space without one.

    Returns:
        Whether every wanted point is complete, and a trial of the search.

    Raises:
        SweepHeldError: another driver runs it.
        ClusterUnfitError: no point can run on the cluster.
        OpenClusterError: the cluster asks for no token.
    """
    try:
        return _run_alone(request, search)
    except LeaseLostError as error:
        print(f"error: {error}: another driver runs this sweep by now", file=sys.stderr)
        return False
    except Exception as error:
        if not is_disk_full(error):
            raise
        print(f"error: {FULL_DISK}: {line_of(error)}", file=sys.stderr)
        print(f"make room; the same command continues:\n  {request.command}", file=sys.stderr)
        return False


def _run_alone(request: Request, search: Search | None) -> bool:
    store, result = request.store, SearchResult(True, "")
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(only_driver(store, request.name))
        store.remove_leftovers()
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
            stack.enter_context(libraries_to(store.local("logs", f"{request.name}-driver.log")))
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
        outcome = _run(request, plan, monitor, lease)
        # Orphans of a killed driver may have been alive the first time; and it may have been
        # killed between making a stage and removing its working directory.
        try:
            store.remove_leftovers()
            _clean(store, plan, is_complete=not outcome.missing)
        except Exception:  # the next run deletes what is left
            log.warning("the clean-up failed", exc_info=True)
        if search is not None and not outcome.missing:
            result = search(request, monitor)
        reason = "" if result.has_best else "no trial of the search was trained to its end"
        monitor.finish(len(outcome.missing), reason)
    print_summary(request, plan, outcome)
    if result.text:
        print(f"\n{result.text}", flush=True)
    if outcome.error is not None:
        raise outcome.error
    return not outcome.missing and result.has_best


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


def _run(request: Request, plan: Plan, monitor: Monitor, lease: Lease) -> Outcome:
    point_log = PointLog(request, plan, monitor.note)
    complete = plan.complete_points()
    point_log.add_stored(complete)
    results = JobResults()
    if plan.jobs:
        for line in metrics_lacking(request.space):
            monitor.note(line)
        monitor.note(STARTING)
        growing = GrowingPoints(
            plan,
            request.store,
            request.name,
            complete,
            point_log.measured,
            lease,
        )
        try:
            results = run_on_ray(request, plan, monitor, point_log, growing, lease)
        finally:
            growing.close()
    missing = _missing_points(request.store, plan, results)
    monitor.note("writing the report")
    lease.check()
    try:
        return _report(request, plan, monitor, point_log, results, missing)
    except Exception as error:
        if not missing or not is_disk_full(error):
            raise
        # The missing points are listed all the same, and why they are missing.
        monitor.note(f"there is no report: {line_of(error)}")
        tracking_uri = request.tracking_uri or default_uri(request.store, request.name)
        return Outcome(None, missing, tracking_uri, {})


def _report(
    request: Request,
    plan: Plan,
    monitor: Monitor,
    point_log: PointLog,
    results: JobResults,
    missing: dict[str, MissingPoint],
) -> Outcome:
    """Write the points file and the report, and add them to the parent run in MLflow."""
    store, name = request.store, request.name
    tracker = point_log.close(missing)
    tracking_uri = request.tracking_uri or default_uri(store, name)
    complete = {plan.key(point): point_log.measured(point) for point in plan.complete_points()}
    seconds = _seconds_by_kind(store, plan, results)
    left_out = skipped(plan, store, complete)
    for line in left_out_lines(left_out):
        monitor.note(line)
    directory = write_sweep(
        plan,
        store,
        name,
        complete,
        missing,
        tracker,
        tracking_uri,
        request.experiment,
        request.owner,
        _timing(request, seconds, results),
        left_out,
    )
    report, error = None, point_log.error
    if complete:
        from analysis.report.build import write_report  # Matplotlib takes seconds

        try:
            report = write_report(directory)
        except Exception as failure:  # raised when all else is done and said
            error = error or failure
    # Once more: the time of the report counts too.
    timing = _timing(request, seconds, results)
    _replace_timing(store, name, timing)
    if tracker is not None:
        sentence = report.sentence if report is not None else "No point is complete yet."
        try:
            _finish_parent_run(tracker, request, plan, not missing, sentence)
        except (AwayError, RefusedError) as refusal:
            monitor.note(f"MLflow: {refusal}; the same command logs the report again")
        _save_copy(tracker, monitor)
        if request.verbose:
            monitor.note(calls_text(tracker, len(plan.points)))
    sliced = _sliced(store, plan, complete, results)
    page = tracker.page if tracker is not None else ""
    return Outcome(report, missing, tracking_uri, timing, sliced, error, page, tuple(left_out))


def _missing_points(store: Store, plan: Plan, results: JobResults) -> dict[str, MissingPoint]:
    """The wanted points that are not complete, by key."""
    missing = {}
    for point in plan.points:
        if plan.is_complete(point):
            continue
        key = plan.key(point)
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


def _seconds_by_kind(store: Store, plan: Plan, results: JobResults) -> dict[str, float]:
    """Seconds of computing in this run, by kind of stage."""
    made = {stage.path: stage for key in results.done for stage in plan.jobs[key].stages}
    stages = list(made.values())
    seconds: dict[str, float] = {}
    manifests = store.manifests(stage.path for stage in stages)
    for stage, manifest in zip(stages, manifests, strict=True):
        seconds[stage.kind] = seconds.get(stage.kind, 0.0) + manifest["seconds"]
    return seconds


def _timing(request: Request, seconds: Mapping[str, float], results: JobResults) -> Timing:
    """The time that this run took; that of the run before if this one made no stage.

    Args:
        seconds: of computing, by kind of stage.
    """
    if not seconds:
        text = request.store.read(f"{request.name}/sweep.json")
        if text is not None:
            return cast(Timing, json.loads(text).get("timing", {}))
    return {
        "wall_s": time.monotonic() - request.began,
        "work_s": sum(seconds.get(kind, 0.0) for kind in ("codec", "point", "evaluation")),
        "work_by_kind_s": dict(seconds),
        "lanes": results.lanes,
    }


def _sliced(
    store: Store, plan: Plan, complete: Mapping[str, Measured], results: JobResults
) -> tuple[str, ...]:
    """Labels of complete points, and of codecs of this run, that ran out of memory at first."""
    manifests = {
        key: (measured.point.label, measured.manifests[0]) for key, measured in complete.items()
    }
    for key in results.done - complete.keys():
        manifests[key] = plan.jobs[key].label, store.manifest(plan.jobs[key].stage.path)
    return tuple(
        label for label, about in manifests.values() if provenance.ACCUMULATION_FACTOR in about
    )


def _replace_timing(store: Store, name: str, timing: Timing) -> None:
    text = store.read(f"{name}/sweep.json")
    assert text is not None
    content = {**json.loads(text), "timing": timing}
    store.write(f"{name}/sweep.json", json.dumps(content, indent=1, allow_nan=False).encode())


def _finish_parent_run(
    tracker: Tracker, request: Request, plan: Plan, complete: bool, sentence: str
) -> None:
    """Add the files of the sweep's directory to its run in MLflow, and end the run."""
    store, name = request.store, request.name
    with storage_answering():
        stored = [PurePosixPath(file) for file in store.below(name)]
    files = [
        path
        for path in stored
        if not path.name.startswith(".")
        and path.name != ID_FILE
        and path.suffix != ".tmp"  # of a killed driver
        # Not the examples, which are with the points.
        and path.parent in (PurePosixPath(name), PurePosixPath(name, "plots"))
    ]
    with tempfile.TemporaryDirectory() as scratch:
        targets = [Path(scratch, path.relative_to(name)) for path in files]
        for target in targets:
            target.parent.mkdir(exist_ok=True)
        with storage_answering():
            store.fs.get([store.path(str(path)) for path in files], [*map(str, targets)])
        tracker.sweep_run.finish(Path(scratch), plan.space.name, complete, sentence)


def _save_copy(tracker: Tracker, monitor: Monitor) -> None:
    """Copy MLflow's database to a remote storage, which is waited for."""
    if tracker.copy is None:
        return
    try:
        with storage_answering():
            patiently(tracker.copy.save)
    except AwayError as error:
        monitor.note(f"MLflow: {error}; the same command copies its database again")


def calls_text(tracker: Tracker, points: int) -> str:
    """How often MLflow's client was called, in all, by method, and for each point."""
    calls = tracker.calls
    methods = ", ".join(f"{number} {name}" for name, number in calls.most_common())
    per_point = calls.total() / max(points, 1)
    return f"MLflow: {calls.total()} calls, {per_point:.1f} a point ({methods})"
