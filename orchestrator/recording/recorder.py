"""Records a sweep: what is finished goes to MLflow and the growing files, the end to the report.

events of jobs --> PointLog --> MLflow
              +--> GrowingPoints --> points.parquet, points.csv
results -------> report
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self, assert_never

from orchestrator.execution.environment import is_disk_full, line_of
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from orchestrator.recording.growing_points import GrowingPoints, SweepLease
from orchestrator.recording.point_log import PointLog
from orchestrator.recording.report import report_sweep
from orchestrator.recording.request import JobResults, Outcome, Request
from orchestrator.tracking.open_tracker import default_uri
from orchestrator.tracking.points_file import MissingPoint


class Records(Protocol):
    """Who records a sweep, here or elsewhere."""

    def listen(self, event: JobEvent) -> None:
        """Record what happened to a job; called from several threads."""

    def grow(self) -> None:
        """Take over what the plan has become: points were added."""

    def add_complete(self, key: str) -> None:
        """Record an added point, by its key, that the storage holds already."""

    def report(self, results: JobResults, missing: Mapping[str, MissingPoint]) -> Outcome:
        """Record how the sweep ended: its points file, its report, its run in MLflow.

        Args:
            missing: wanted points that are not complete, by key.
        """


def concerns_recorder(event: JobEvent) -> bool:
    """Whether a recorder does something about an event: it records, or learns of a stage."""
    match event.kind:
        case "progressed":
            return bool(event.metrics)
        case "finished" | "failed" | "cancelled" | "withdrawn":
            return True
        case "started" | "retried":
            return False
        case _:
            assert_never(event.kind)


class Recorder:
    """Records a sweep in this process, in threads; from its start to the end of its context.

    Args:
        request: of the sweep.
        plan: of the sweep; points that it knows to be complete are recorded at once.
        note: called with a line for a person.
        lease: of the sweep; whoever lost it writes no points.
        may_log: whether MLflow may be written to just now.
    """

    def __init__(
        self,
        request: Request,
        plan: Plan,
        note: Callable[[str], None],
        lease: SweepLease,
        may_log: Callable[[], bool] = lambda: True,
    ) -> None:
        # Before there are threads: two that begin to import it at a time wait for each other.
        import analysis.report.build  # noqa: F401  Matplotlib takes seconds

        self._request, self._plan, self._note = request, plan, note
        complete = plan.known_points()
        self._point_log = PointLog(request, plan, note, may_log)
        self._point_log.add_stored(complete)
        self._growing: GrowingPoints | None = None
        if plan.jobs:
            read = self._point_log.measured
            place = plan, request.store, request.name
            self._growing = GrowingPoints(*place, complete, read, lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop_growing()
        self._point_log.abandon()

    def _stop_growing(self) -> None:
        if self._growing is not None:
            self._growing.close()

    def listen(self, event: JobEvent) -> None:
        """Log a training live, complete or failed, and add what is finished to the points file."""
        job = self._plan.jobs[event.key]
        match event.kind:
            case "progressed":
                if event.metrics and _has_mlflow_run(job):
                    step, steps = int(event.step), int(event.steps)
                    self._point_log.add_step(job, step, steps, event.metrics)
            case "finished":
                self._plan.job_done(event.key)
                if _has_mlflow_run(job):
                    self._finished(job)
            case "failed" | "withdrawn":
                for failed in map(self._plan.jobs.__getitem__, event.failed):
                    if _has_mlflow_run(failed):
                        self._point_log.add_failed(failed, event.reason)
            case "cancelled":
                if _has_mlflow_run(job):
                    self._point_log.add_cancelled(job)
            case "started" | "retried":
                pass
            case _:
                assert_never(event.kind)

    def _finished(self, job: Job) -> None:
        point = job.subject.point
        if point is not None and self._growing is not None:
            self._growing.add(point)
        if point is not None and self._plan.is_complete(point):
            self._point_log.add(point)
        else:
            self._point_log.add_trained(job.stage)

    def grow(self) -> None:
        """Log how many points there are by now."""
        self._point_log.show_total()

    def add_complete(self, key: str) -> None:
        """Log an added point that the storage holds already, and add it to the points file."""
        point = self._plan.wanted[key]
        if self._growing is not None:
            self._growing.add(point)
        self._point_log.add(point)

    def report(self, results: JobResults, missing: Mapping[str, MissingPoint]) -> Outcome:
        """Write the files of the finished sweep.

        The lease is to be held before; whoever loses it meanwhile writes to the end.

        Args:
            missing: wanted points that are not complete, by key.

        Raises:
            Exception: whatever ends the report. Where points are missing, a full disk does not:
                the outcome has no report then, and lists them.
        """
        self._stop_growing()
        request, gone = self._request, dict(missing)
        try:
            return report_sweep(request, self._plan, self._note, self._point_log, results, gone)
        except Exception as error:
            if not missing or not is_disk_full(error):
                raise
            # The missing points are listed all the same, and why they are missing.
            self._note(f"there is no report: {line_of(error)}")
            tracking_uri = request.tracking_uri or default_uri(request.store, request.name)
            return Outcome(None, gone, tracking_uri, {})


def _has_mlflow_run(job: Job) -> bool:
    """Whether a job has a run in MLflow: that of an operating point or of a base codec."""
    return job.subject.point is not None or job.kind == "codec"
