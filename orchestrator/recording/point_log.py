"""Trainings and operating points on their way to MLflow, while a sweep runs.

reports of a training --LiveCurves--> the run of its point or codec, from the first step on
storage --measured--> LogQueue, in a thread --> the same run, complete; live figures
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from orchestrator.plan.jobs import Job, Plan
from orchestrator.recording.live_figures import LiveFigures
from orchestrator.recording.request import Request
from orchestrator.storage.files import StoreError
from orchestrator.tracking.curves import CurveRow, LiveCurves
from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.measured import Measured, point_spec, read_curve, read_measured
from orchestrator.tracking.mlflow_client import AwayError, storage_answering
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.open_tracker import open_tracker
from orchestrator.tracking.points_file import MissingPoint
from orchestrator.tracking.run_content import point_subject, subject_of
from search_spaces import OperatingPoint, Stage, operating_points, point_stage

COUNT_EVERY_S: Final = 10.0
"""Seconds between two times at which the sweep's run gets the number of its complete points."""


class PointLog:
    """Logs trainings live, and each operating point and base codec as soon as it is complete.

    Nothing waits for the server.

    Args:
        request: of the sweep.
        plan: of the sweep.
        note: called with a line for a person when the server is away or refuses something.
        may_log: as of `LogQueue`.
    """

    def __init__(
        self,
        request: Request,
        plan: Plan,
        note: Callable[[str], None],
        may_log: Callable[[], bool] = lambda: True,
    ) -> None:
        self._plan, self._store = plan, request.store
        self._measured: dict[str, Measured] = {}
        self._damaged: dict[str, MissingPoint] = {}
        self._lock = threading.Lock()
        self._curves = LiveCurves()
        self._figures = LiveFigures(plan, request.name, note)
        self._done: set[str] = set()
        self._count_at = 0.0
        self._queue = LogQueue(
            lambda: open_tracker(
                request.store,
                request.tracking_uri,
                request.name,
                request.experiment,
                request.owner,
            ),
            note,
            self._while_idle,
            may_log,
        )

    def abandon(self) -> None:
        """Log no more; the next run logs the rest."""
        self._figures.stop()
        self._queue.abandon()

    def _while_idle(self, tracker: Tracker) -> None:
        self._curves.log_if_due(partial(self._log_live, tracker))
        if time.monotonic() >= self._count_at:
            self._log_done(tracker)
            self._count_at = time.monotonic() + COUNT_EVERY_S
        if self._plan.jobs:
            self._figures.refresh(tracker)
        if tracker.copy is not None:
            tracker.copy.save_if_due()

    def _log_live(self, tracker: Tracker, key: str, rows: list[CurveRow]) -> None:
        tracker.log_live(subject_of(self._plan.space, self._plan.jobs[key].stage, key), rows)

    def _log_done(self, tracker: Tracker) -> None:
        tracker.sweep_run.log_done(len(self._done), len(self._plan.wanted.keys() | self._done))

    def measured(self, point: OperatingPoint) -> Measured:
        """What was measured of a complete point; read from the storage once, by any thread.

        Raises:
            StoreError: a stage of it is damaged.
        """
        key = self._plan.key(point)
        with self._lock:
            if key not in self._measured:
                self._measured[key] = read_measured(self._plan, self._store, point)
            return self._measured[key]

    @property
    def damaged(self) -> dict[str, MissingPoint]:
        """The points, by key, of which a stage was found to be damaged."""
        return dict(self._damaged)

    def read_all(self, points: Iterable[OperatingPoint]) -> None:
        """Read what was measured of complete points, to find the `damaged` ones."""
        for point in points:
            try:
                self.measured(point)
            except StoreError as error:
                self._note_damage(point, error)

    def _note_damage(self, point: OperatingPoint, error: StoreError) -> None:
        self._damaged[self._plan.key(point)] = MissingPoint(point, f"damaged: {error}", "")

    def add_step(self, job: Job, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of a step in the run of a job that trains."""
        self._curves.add(job.key, step, steps, metrics)

    def add_stored(self, points: Sequence[OperatingPoint]) -> None:
        """Log points that were complete before, and base codecs, unless they are logged."""
        self._done |= {self._plan.key(point) for point in points}
        for point in points:
            self.add(point)
        codecs = [stage for stage in self._stages().values() if stage.kind == "codec"]

        def log(tracker: Tracker) -> None:
            for stage in codecs:
                if stage.key in self._plan.jobs or tracker.is_trained(stage.key):
                    continue
                with storage_answering():
                    is_complete = self._store.has(stage.path)
                if is_complete:
                    self._log_trained(stage, tracker)

        self._queue.put(log)

    def add(self, point: OperatingPoint) -> None:
        """Log a complete point."""
        key = self._plan.key(point)
        self._curves.drop(key)

        def log(tracker: Tracker) -> None:
            try:
                with storage_answering():
                    measured = self.measured(point)
                self._done.add(key)
                self._figures.add(measured)
                tracker.log_point(measured)
            except AwayError as error:
                if not isinstance(error.__cause__, StoreError):
                    raise
                self._done.discard(key)
                self._note_damage(point, error.__cause__)

        self._queue.put(log)

    def add_trained(self, stage: Stage) -> None:
        """Log a complete base codec, or a point that is trained and that nobody measures."""
        self._curves.drop(stage.key)
        self._queue.put(partial(self._log_trained, stage))

    def _log_trained(self, stage: Stage, tracker: Tracker) -> None:
        if tracker.is_trained(stage.key):
            return
        with storage_answering():
            manifest = self._store.manifest(stage.path)
            curve = read_curve(self._store, manifest)
        if curve:  # none of released weights
            tracker.log_trained(subject_of(self._plan.space, stage), manifest, curve)

    def _stages(self) -> dict[str, Stage]:
        """All stages of the space's points, by key."""
        stages: dict[str, Stage] = {}
        above = [point_stage(self._plan.stages, p) for p in operating_points(self._plan.space)]
        while above:
            stage = above.pop()
            if stage.key not in stages:
                stages[stage.key] = stage
                above += stage.inputs
        return stages

    def add_failed(self, job: Job, reason: str) -> None:
        """Mark a job's run as failed, and show a failed point in the live figures."""
        self._curves.drop(job.key)
        point = job.subject.point

        def log(tracker: Tracker) -> None:
            if point is not None:
                self._figures.add_failed(point, reason)
            tracker.log_failed(subject_of(self._plan.space, job.stage, job.key), reason)

        self._queue.put(log)

    def add_cancelled(self, job: Job) -> None:
        """Mark a job's run as cancelled."""
        self._curves.drop(job.key)
        subject = subject_of(self._plan.space, job.stage, job.key)
        self._queue.put(lambda tracker: tracker.log_cancelled(subject))

    def show_total(self) -> None:
        """Log how many points there are: some were added."""
        self._queue.put(self._log_done)

    @property
    def error(self) -> Exception | None:
        """The first error of this program while it logged."""
        return self._queue.error

    def close(self, missing: Mapping[str, MissingPoint]) -> Tracker | None:
        """Log what is left and the missing points; None if the server is away.

        Args:
            missing: by key of the point.
        """
        points = operating_points(self._plan.space)
        keys = {*self._stages(), *(self._plan.key(point) for point in points)}

        def log_missing(key: str, gone: MissingPoint, tracker: Tracker) -> None:
            spec = point_spec(self._plan.space, gone.point)
            tracker.log_failed(point_subject(key, gone.point, spec), gone.reason)

        for key, gone in missing.items():  # a refusal costs one
            self._queue.put(partial(log_missing, key, gone))
        self._queue.put(lambda tracker: tracker.mark_stale(keys))
        self._queue.put(self._log_done)
        self._figures.stop()
        return self._queue.close()
