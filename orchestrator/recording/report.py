"""The end of a sweep: its points file, its report, and the parent run in MLflow."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, cast

from orchestrator.plan.jobs import Plan
from orchestrator.plan.past_sweeps import json_object
from orchestrator.recording import kept_report
from orchestrator.recording.point_log import PointLog
from orchestrator.recording.request import JobResults, Outcome, Request, Timing
from orchestrator.storage import provenance
from orchestrator.storage.files import StoreError
from orchestrator.storage.outage import patiently
from orchestrator.storage.store import Manifest, Store
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import AwayError, RefusedError, storage_answering
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import default_uri
from orchestrator.tracking.points_file import (
    MissingPoint,
    manifest_or_nothing,
    skipped,
    write_sweep,
)
from orchestrator.tracking.sweep_identity import ID_FILE
from search_spaces import Stage

if TYPE_CHECKING:
    from analysis.report.paths import ReportPaths

_MOST_LINES: Final = 5
"""Of what was left out, that are shown."""
log = logging.getLogger(__name__)


def report_sweep(
    request: Request,
    plan: Plan,
    note: Callable[[str], None],
    point_log: PointLog,
    results: JobResults,
    missing: dict[str, MissingPoint],
) -> Outcome:
    """Write the points file and the report, and add them to the parent run in MLflow.

    Args:
        note: called with a line for a person.
        missing: wanted points that are not complete, by key; those of which a stage is damaged are
            added.
    """
    store, name = request.store, request.name
    stored = {plan.key(point): point for point in plan.complete_points()}
    point_log.read_all(stored.values())
    tracker = point_log.close({**missing, **point_log.damaged})
    damaged = _note_damaged(point_log, note)
    missing |= {key: absent for key, absent in damaged.items() if key in plan.wanted}
    tracking_uri = request.tracking_uri or default_uri(store, name)
    complete = {
        key: point_log.measured(point) for key, point in stored.items() if key not in damaged
    }
    cancelled = _cancelled(plan, results.cancelled - stored.keys())
    seconds = _seconds_by_kind(store, plan, results)
    left_out = skipped(plan, store, complete)
    for line in left_out_lines(left_out):
        note(line)
    directory = write_sweep(
        plan,
        store,
        name,
        complete,
        {**missing, **damaged, **cancelled},
        tracker,
        tracking_uri,
        request.experiment,
        request.owner,
        _timing(request, seconds, results),
        left_out,
    )
    report, failure = _write_report(store, name, directory) if complete else (None, None)
    error = point_log.error or failure
    # Once more: the time of the report counts too.
    timing = _timing(request, seconds, results)
    _replace_timing(store, name, timing)
    if tracker is not None:
        sentence = report.sentence if report is not None else "No point is complete yet."
        _log_report(tracker, request, plan, note, not missing, sentence)
    sliced = _sliced(store, plan, complete, results)
    page = tracker.page if tracker is not None else ""
    labels = tuple(sorted(gone.point.label for gone in cancelled.values()))
    return Outcome(
        *(report, missing, tracking_uri, timing, sliced, error, page),
        left_out=tuple(left_out),
        cancelled=labels,
    )


def _cancelled(plan: Plan, keys: Collection[str]) -> dict[str, MissingPoint]:
    """The wanted points among cancelled jobs, by key."""
    return {
        key: MissingPoint(plan.wanted[key], "cancelled", "") for key in plan.wanted.keys() & keys
    }


def _note_damaged(point_log: PointLog, note: Callable[[str], None]) -> Mapping[str, MissingPoint]:
    """The points with a damaged stage, by key: all that has been logged was read for that."""
    damaged = point_log.damaged
    for absent in damaged.values():
        note(f"{absent.point.label}: {absent.reason}")
    return damaged


def left_out_lines(lines: Sequence[str]) -> Iterator[str]:
    """Lines for a person about what was left out, and how many lines more there are.

    Args:
        lines: of `points_file.skipped`.
    """
    yield from (f"left out: {line}" for line in lines[:_MOST_LINES])
    if more := len(lines[_MOST_LINES:]):
        yield f"left out: {more} lines more, in `skipped` of sweep.json"


def _write_report(
    store: Store, name: str, directory: str
) -> tuple[ReportPaths | None, Exception | None]:
    """The report, written or kept, or the error to be raised when all else is done and said.

    Args:
        name: the sweep's.
        directory: the sweep's, or its URI.
    """
    try:
        store.refuse_links_in(name)  # the report knows nothing of storages
        content = kept_report.content_of(store, name)
        report = kept_report.kept(store, name, content)
        if report is None:
            from analysis.report.build import write_report  # Matplotlib takes seconds

            report = write_report(directory)
            try:
                kept_report.keep(store, name, content, report)
            except Exception:  # whatever a storage raises; then the next run writes it again
                log.warning("it is not noted what the report shows", exc_info=True)
        return report, None
    except Exception as failure:
        log.exception("the report is not written")
        return None, failure


def _seconds_by_kind(store: Store, plan: Plan, results: JobResults) -> dict[str, float]:
    """Seconds of computing in this run, by kind of stage."""
    made = {stage.path: stage for key in results.done for stage in plan.jobs[key].stages}
    stages = list(made.values())
    seconds: dict[str, float] = {}
    for stage, manifest in zip(stages, _manifests(store, stages), strict=True):
        seconds[stage.kind] = seconds.get(stage.kind, 0.0) + manifest.get("seconds", 0.0)
    return seconds


def _manifests(store: Store, stages: Sequence[Stage]) -> list[Manifest]:
    """The manifests of stages; of a damaged one, nothing."""
    paths = [stage.path for stage in stages]
    try:
        return list(store.manifests(paths))
    except StoreError:
        return [manifest_or_nothing(store, path) for path in paths]


def _timing(request: Request, seconds: Mapping[str, float], results: JobResults) -> Timing:
    """The time that this run took; that of the run before if this one made no stage.

    Args:
        seconds: of computing, by kind of stage.
    """
    if not seconds:
        text = request.store.read(f"{request.name}/sweep.json")
        if text is not None:
            return cast(Timing, json_object(text).get("timing") or {})
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
        job = plan.jobs[key]
        manifests[key] = job.label, manifest_or_nothing(store, job.stage.path)
    return tuple(
        label for label, about in manifests.values() if provenance.ACCUMULATION_FACTOR in about
    )


def _replace_timing(store: Store, name: str, timing: Timing) -> None:
    text = store.read(f"{name}/sweep.json")
    assert text is not None
    content = {**json.loads(text), "timing": timing}
    store.write(f"{name}/sweep.json", json.dumps(content, indent=1, allow_nan=False).encode())


def _log_report(
    tracker: Tracker,
    request: Request,
    plan: Plan,
    note: Callable[[str], None],
    complete: bool,
    sentence: str,
) -> None:
    try:
        _finish_parent_run(tracker, request, plan, complete, sentence)
    except (AwayError, RefusedError) as refusal:
        note(f"MLflow: {refusal}; the same command logs the report again")
    _save_copy(tracker, note)
    if request.verbose:
        note(calls_text(tracker, len(plan.points)))


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
        and path.name not in (ID_FILE, kept_report.RECORD)
        and path.suffix != ".tmp"  # of a process that was killed
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


def _save_copy(tracker: Tracker, note: Callable[[str], None]) -> None:
    """Copy MLflow's database to a remote storage, which is waited for."""
    if tracker.copy is None:
        return
    try:
        with storage_answering():
            patiently(tracker.copy.save)
    except AwayError as error:
        note(f"MLflow: {error}; the same command copies its database again")


def calls_text(tracker: Tracker, points: int) -> str:
    """How often MLflow's client was called, in all, by method, and for each point."""
    calls = tracker.calls
    methods = ", ".join(f"{number} {name}" for name, number in calls.most_common())
    per_point = calls.total() / max(points, 1)
    return f"MLflow: {calls.total()} calls, {per_point:.1f} a point ({methods})"
