"""A sweep from its plan to its report."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.driver.plan_text import metrics_lacking
from orchestrator.driver.summary import tell
from orchestrator.driver.view import STARTING, View, libraries_to, open_view
from orchestrator.execution.worker import Settings
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.resources import trial_ask
from orchestrator.plan.schedule import Schedule
from orchestrator.storage import provenance
from orchestrator.storage.lock import only_driver
from orchestrator.storage.store import Store
from orchestrator.tracking.live_figures import Live
from orchestrator.tracking.log_queue import Background
from orchestrator.tracking.mlflow_runs import Tracker, default_uri
from orchestrator.tracking.points_file import Measured, measured, write_sweep
from search_spaces import OperatingPoint, Space, operating_points

if TYPE_CHECKING:
    from analysis.report.build import ReportPaths


class ClusterTooSmallError(RuntimeError):
    """The cluster can never run a point of this space."""


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    space: Space
    points: tuple[OperatingPoint, ...]
    store: Store
    name: str
    tracking_uri: str | None
    verbose: bool
    began: float
    command: str


@dataclass(frozen=True)
class Missing:
    """A wanted point that is not there."""

    point: OperatingPoint
    reason: str
    log: str
    """Path of the log that says more; empty if there is none."""


class _Found:
    """Points read from the storage so far; read once, from whichever thread needs one first."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._points: dict[str, Measured] = {}
        self._lock = threading.Lock()

    def get(self, point: OperatingPoint) -> Measured:
        key = self._plan.key(point)
        with self._lock:
            if key not in self._points:
                self._points[key] = measured(self._plan, self._store, point)
            return self._points[key]


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to."""

    report: ReportPaths | None
    missing: dict[str, Missing]
    tracking_uri: str
    timing: dict[str, Any]


def run(request: Request) -> bool:
    """Run, log and report a sweep; True if every wanted point is there.

    Raises:
        SweepHeldError: another driver runs it.
        ClusterTooSmallError: the cluster is too small for any point.
    """
    store = request.store
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_driver(store, request.name))
        store.sweep_up()
        plan = Plan(request.space, request.points, provenance.fingerprints(request.space), store)
        view = open_view(request.name, request.verbose)
        stack.callback(view.close)
        if not request.verbose:
            stack.enter_context(libraries_to(store.local("logs", f"{request.name}-driver.log")))
        outcome = _run(request, plan, view)
        # Orphans of a killed driver may have been alive the first time; and it may have been
        # killed between making a stage and forgetting the work on it.
        store.sweep_up()
        for key in plan.done:
            store.done_with(key)
    tell(request, plan, outcome)
    return not outcome.missing


def _run(request: Request, plan: Plan, view: View) -> Outcome:
    store = request.store
    found = _Found(plan, store)
    tracking_uri = request.tracking_uri or default_uri(store)
    live = Live(plan, request.name, view.note)
    tracking = Background(
        lambda: open_tracker(request), view.note, live.refresh if plan.jobs else None
    )

    def log(point: OperatingPoint) -> None:
        def work(tracker: Tracker) -> None:
            tracker.point(found.get(point))
            live.add(found.get(point))

        tracking.do(work)

    def fail(point: OperatingPoint, reason: str) -> None:
        tracking.do(lambda tracker: live.fail(point, reason))

    for point in plan.complete_points():
        log(point)
    schedule = Schedule(plan.jobs, trial_ask(plan.space), trial_ask(plan.space))
    if plan.jobs:
        # While there is nothing to log, the thread imports what the end will need.
        tracking.do(lambda tracker: _import_report())
        for line in metrics_lacking(request.space):
            view.note(line)
        view.note(STARTING)
        schedule = _work(request, plan, view, log, fail)
    missing = _missing(request, plan, schedule)
    for key, one in missing.items():
        tracking.do(_fail(key, one))
    view.note("writing the report")
    live.stop()
    tracker = tracking.close()
    if tracker is not None:
        tracker.stale({plan.key(point) for point in operating_points(plan.space)})
    complete = {plan.key(point): found.get(point) for point in plan.complete_points()}
    directory = write_sweep(
        plan,
        store,
        request.name,
        complete,
        {key: (one.reason, one.log) for key, one in missing.items()},
        tracker.run_ids() if tracker else {},
        tracking_uri,
        tracker.parent if tracker else None,
        _timing(request, plan, schedule),
    )
    report = None
    if complete:
        from analysis.report.build import write_report

        report = write_report(directory)
    # The report's own time counts too.
    timing = _timing(request, plan, schedule)
    _patch_timing(store, request.name, timing)
    if tracker is not None:
        sentence = report.sentence if report is not None else "No point is complete yet."
        _finish(tracker, request, plan, not missing, sentence)
    return Outcome(report, missing, tracking_uri, timing)


def open_tracker(request: Request) -> Tracker:
    """What logs a request's sweep.

    Raises:
        AwayError: the server does not answer.
    """
    store = request.store
    uri = request.tracking_uri or default_uri(store)
    local = uri.startswith("sqlite:")
    artifacts = (Path(store.root) / "mlruns").as_uri() if local and not store.remote else None
    return Tracker(uri, artifacts, request.name)


def _work(request: Request, plan: Plan, view: View, log: Any, fail: Any) -> Schedule:
    """Run the plan's jobs on Ray."""
    from orchestrator.execution import cluster
    from orchestrator.execution.evaluators import open_pool
    from orchestrator.execution.runner import Runner
    from orchestrator.execution.tune import tune_jobs

    settings = Settings(plan.space, request.store.uri, plan.jobs, provenance.code())
    with _early_world(settings, plan), ray_running(request.verbose):
        capacity, problem = cluster.capacity(plan.space)
        nodes = cluster.nodes()
        if len(nodes) > 1 and not request.store.remote:
            view.note(f"all {len(nodes)} nodes of the cluster must see {request.store.uri}")
        if problem:
            raise ClusterTooSmallError(problem)
        schedule = Schedule(plan.jobs, trial_ask(plan.space), capacity)
        view.plan(plan.jobs, schedule.free_lanes())

        def done(key: str) -> None:
            point = plan.jobs[key].point
            if point is not None and plan.is_complete(point):
                log(point)

        def failed(key: str, reason: str) -> None:
            point = plan.jobs[key].point
            if point is not None:
                fail(point, reason)

        runner = Runner(
            settings,
            schedule,
            view,
            done,
            failed,
            lambda: cluster.capacity(plan.space)[0],
            open_pool(settings),
        )
        tune_jobs(runner, request.verbose)
        return schedule


@contextlib.contextmanager
def _early_world(settings: Settings, plan: Plan) -> Iterator[None]:
    """Make the world while Ray starts, which takes it ten seconds and one core.

    The world's trial waits for the lock that this process holds, and then finds it done; if this
    process fails, the trial makes the world and says what is wrong.
    """
    key = plan.stages.world().key
    if key not in plan.jobs or plan.jobs[key].kind != "world":
        yield
        return
    code = "import pickle, sys; from orchestrator.execution.worker import run_job; "
    code += "run_job(*pickle.load(sys.stdin.buffer), print)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((settings, key)))
        process.stdin.close()
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def ray_running(verbose: bool) -> Iterator[None]:
    """Ray, started or joined, and left again."""
    from orchestrator.execution import cluster

    cluster.start(verbose)
    try:
        yield
    finally:
        cluster.stop()


def _fail(key: str, one: Missing) -> Any:
    return lambda tracker: tracker.missing(key, one.point, one.reason)


def _import_report() -> None:
    import analysis.report.build

    assert analysis.report.build


def _missing(request: Request, plan: Plan, schedule: Schedule) -> dict[str, Missing]:
    """Wanted points that are not there, by key."""
    missing = {}
    for point in plan.points:
        if plan.is_complete(point):
            continue
        key = plan.key(point)
        reason = schedule.failed.get(key, "was not run")
        log = _log_of(request.store, plan.jobs.get(key), schedule)
        missing[key] = Missing(point, reason, log)
    return missing


def _log_of(store: Store, job: Job | None, schedule: Schedule) -> str:
    """The log that explains a failure: the job's own, or that of what it waited for."""
    while job is not None:
        path = f"logs/{job.key}.log"
        if store.read(path) is not None:
            return store.path(path)
        job = next((schedule.jobs[n] for n in job.needs if n in schedule.failed), None)
    return ""


def _timing(request: Request, plan: Plan, schedule: Schedule) -> dict[str, Any]:
    """Wall time of this run and the work in it; what an earlier run did is not counted."""
    seconds: dict[str, float] = {}
    for key in schedule.done:
        job = plan.jobs[key]
        for stage in (job.stage, *(stage for _, stage in job.evaluations)):
            spent = request.store.manifest(stage.path)["seconds"]
            seconds[stage.kind] = seconds.get(stage.kind, 0.0) + spent
    if not seconds:
        text = request.store.read(f"{request.name}/sweep.json")
        if text is not None:
            earlier: dict[str, Any] = json.loads(text).get("timing", {})
            return earlier
    return {
        "wall_s": time.monotonic() - request.began,
        "work_s": sum(seconds.get(kind, 0.0) for kind in ("codec", "point", "evaluation")),
        "work_by_kind_s": seconds,
        "lanes": schedule.free_lanes(),
    }


def _patch_timing(store: Store, name: str, timing: dict[str, Any]) -> None:
    text = store.read(f"{name}/sweep.json")
    assert text is not None
    content = {**json.loads(text), "timing": timing}
    store.write(f"{name}/sweep.json", json.dumps(content, indent=1, allow_nan=False).encode())


def _finish(tracker: Tracker, request: Request, plan: Plan, complete: bool, sentence: str) -> None:
    import tempfile

    params = {"space": plan.space.name, "points": len(operating_points(plan.space))}
    store, name = request.store, request.name
    if not store.remote:
        tracker.finish(Path(store.path(name)), params, complete, sentence)
        return
    with tempfile.TemporaryDirectory() as scratch:
        store.fs.get(store.path(name) + "/", scratch + "/", recursive=True)
        tracker.finish(Path(scratch), params, complete, sentence)
