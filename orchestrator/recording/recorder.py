"""Records a sweep: what is finished goes to MLflow and the growing files, the end to the report.

events of jobs --> PointLog --> MLflow
              +--> GrowingPoints --> points.parquet, points.csv
results -------> report
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self

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


def is_recorded(event: JobEvent) -> bool:
    """Whether an event leads to a record; of others, only the driver keeps account."""
    is_step = event.kind == "progressed" and bool(event.metrics)
    return is_step or event.kind in ("finished", "failed", "cancelled") or bool(event.others)


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
        compute_in_calling_thread()
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
        plan, point_log = self._plan, self._point_log
        if event.kind == "finished":
            plan.job_done(event.key)
        failed = (event.key,) if event.kind == "failed" else event.others
        for key in failed:
            if has_run(plan.jobs[key]):
                point_log.add_failed(plan.jobs[key], event.reason)
        job = plan.jobs[event.key]
        if not has_run(job):
            return
        if event.kind == "cancelled":
            point_log.add_cancelled(job)
        if event.kind == "progressed" and event.metrics:
            point_log.add_step(job, int(event.step), int(event.steps), event.metrics)
        elif event.kind == "finished":
            self._finished(job)

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
        """Write the files of the finished sweep; a full disk costs only these.

        Args:
            missing: wanted points that are not complete, by key.
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


def has_run(job: Job) -> bool:
    """Whether a job has a run in MLflow: that of an operating point or of a base codec."""
    return job.subject.point is not None or job.kind == "codec"


def compute_in_calling_thread() -> None:
    """Let NumPy compute in the thread that calls it, with no threads of its own.

    The other cores are the jobs'. And OpenBLAS ends its threads when the process forks, as Ray does
    to start a cluster: a product of matrices that another thread computes in that moment would wait
    for them for ever. The arrays are small: one thread is also the faster way.
    """
    import numpy  # noqa: F401  only a library that is loaded can be limited
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
