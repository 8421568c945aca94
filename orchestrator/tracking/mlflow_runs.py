"""The runs of a sweep in MLflow, which repeat what the storage holds.

    parent run (tag bridgesweep.sweep) --mlflow.parentRunId-- child run (tag bridgesweep.point_key)

Only the driver writes. Runs are found again by their tags, and metrics are written with the time at
which the storage got them, so logging twice changes nothing. While the server is away nothing is
lost: the next sweep logs it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import answering, open_experiment
from orchestrator.tracking.mlflow_copy import MlflowCopy
from orchestrator.tracking.run_content import (
    FORMAT,
    VARIANT,
    metrics_of,
    name_tags,
    params_of,
    tags_of,
    write_artifacts,
)
from search_spaces import OperatingPoint

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric, Run

PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
KIND, SWEEP = "bridgesweep.kind", "bridgesweep.sweep"
POINT_KEY, STATUS, CONTENT = ("bridgesweep.point_key", "bridgesweep.status", "bridgesweep.content")
_RUN_NAME_LENGTH = 250
_MOST_RUNS = 50_000
"""The most that MLflow returns at once."""


@dataclass
class TrialRecord:
    """A trial of a search: its settings and what came of it.

    Attributes:
        settings: dotted path -> value.
        key: of the operating point under these settings.
        status: `running`, `finished`, `stopped` (by ASHA, early) or `failed`.
        val_loss: the lowest validation loss so far; None if there is none.
        curve: (step, validation loss).
        reason: of a failure, in parentheses.
    """

    settings: dict[str, object]
    key: str
    status: str = "running"
    val_loss: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    reason: str = ""


class Tracker:
    """Writes a sweep to MLflow; every method raises `AwayError` if the server does not answer.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.
        name: the sweep's name.
        copy: of the database and the artifacts, where a remote storage holds them.

    Attributes:
        parent: id of the sweep's run.
    """

    def __init__(
        self, uri: str, artifacts: str | None, name: str, copy: MlflowCopy | None = None
    ) -> None:
        self._uri, self._name, self.copy = uri, name, copy
        self._client, self._experiment = open_experiment(uri, artifacts)
        with answering(uri):
            self.parent = self._find_parent()
            self._children = self._find_children()

    def _find_parent(self) -> str:
        runs = self._search(f"tags.`{KIND}` = 'sweep' and tags.`{SWEEP}` = '{self._name}'")
        if runs:
            return str(runs[0].info.run_id)
        tags = {KIND: "sweep", SWEEP: self._name, "mlflow.runName": self._name}
        return str(self._client.create_run(self._experiment, tags=tags).info.run_id)

    def _find_children(self) -> dict[str, Run]:
        """Point key -> run. A second run of a key can only come from two drivers at once."""
        children: dict[str, Run] = {}
        for run in self._search(f"tags.`{PARENT}` = '{self.parent}'"):
            key = run.data.tags.get(POINT_KEY)
            if key is None:
                continue
            if key in children:
                self._client.delete_run(run.info.run_id)
            else:
                children[key] = run
        return children

    def run_ids(self) -> dict[str, str]:
        """Point key -> run id of all children."""
        return {key: str(run.info.run_id) for key, run in self._children.items()}

    def log_point(self, measured: Measured) -> str:
        """Log a complete point unless it is logged already; returns its run id."""
        content = ",".join((FORMAT, *(Path(m["stage"]).name for m in measured.manifests)))
        child = self._children.get(measured.key)
        if child is not None:
            tags = child.data.tags
            if tags.get(STATUS) == "complete" and tags.get(CONTENT) == content:
                if tags.get(VARIANT, "") != measured.point.variant:
                    # The variant has a new name.
                    self._set_tags(child, {VARIANT: "", **name_tags(measured.point)})
                return str(child.info.run_id)
        first, last = measured.manifests[0], measured.manifests[-1]
        with tempfile.TemporaryDirectory() as scratch:
            write_artifacts(measured, Path(scratch))
            began = int(1000 * (first["created"] - first["seconds"]))
            run_id = str(self._child(measured.key, measured.point, began).info.run_id)
            self._log(run_id, metrics_of(measured), params_of(measured), tags_of(measured))
            with answering(self._uri):
                self._client.log_artifacts(run_id, scratch)
                # Last: a run with the status `complete` has everything.
                self._client.set_tag(run_id, CONTENT, content)
                self._client.set_tag(run_id, STATUS, "complete")
                self._client.set_terminated(run_id, end_time=int(1000 * last["created"]))
                self._children[measured.key] = self._client.get_run(run_id)
        return run_id

    def log_missing(self, key: str, point: OperatingPoint, reason: str) -> None:
        """Mark a point as failed, unless it was complete before.

        Args:
            key: of the point.
        """
        child = self._child(key, point)
        if child.data.tags.get(STATUS) != "complete":
            self._set_tags(child, {STATUS: "failed", "bridgesweep.reason": reason})
            with answering(self._uri):
                self._client.set_terminated(child.info.run_id, "FAILED")

    def log_trial(self, trial: TrialRecord) -> None:
        """Log a trial of a search unless it is logged already."""
        from mlflow.entities import Metric

        content = f"{trial.key},{trial.status}"
        tags = {PARENT: self.parent, KIND: "trial", SWEEP: self._name, STATUS: trial.status}
        name = ", ".join(f"{path}={value}" for path, value in trial.settings.items())
        same = f"tags.`{PARENT}` = '{self.parent}' and tags.`{CONTENT}` = '{content}'"
        with answering(self._uri):
            if self._search(same):
                return
            run_name = f"trial {name}"[:_RUN_NAME_LENGTH]
            run = self._client.create_run(self._experiment, tags=tags, run_name=run_name).info
        metrics = [Metric("val_loss", loss, run.start_time, step) for step, loss in trial.curve]
        if trial.val_loss is not None:
            metrics.append(Metric("best_val_loss", trial.val_loss, run.start_time, 0))
        self._log(run.run_id, metrics, trial.settings, {CONTENT: content})
        with answering(self._uri):
            status = "FAILED" if trial.status == "failed" else "FINISHED"
            self._client.set_terminated(run.run_id, status)

    def mark_stale(self, keys: set[str]) -> None:
        """Mark the children whose point is no longer in the space: its settings changed.

        Args:
            keys: of the points that the space has.
        """
        for key, run in self._children.items():
            if key not in keys and run.data.tags.get(STATUS) != "stale":
                self._set_tags(run, {STATUS: "stale"})

    def show_progress(self, table: Path, plots: Path, done: int, sentence: str) -> None:
        """Give the parent run the figures and the table of an unfinished sweep.

        Args:
            table: a CSV of the points so far.
            plots: a directory of their figures.
            done: how many operating points are complete; a metric, for its course over time.
            sentence: the description.
        """
        self._log_done(done, {}, {STATUS: "running", DESCRIPTION: sentence})
        with answering(self._uri):
            self._client.log_artifact(self.parent, str(table))
            self._client.log_artifacts(self.parent, str(plots), "plots")
            self._client.update_run(self.parent, "RUNNING")

    def finish(
        self,
        directory: Path,
        params: Mapping[str, object],
        done: int,
        complete: bool,
        sentence: str,
    ) -> None:
        """Give the parent run its artifacts and description, and end it.

        Args:
            directory: the sweep's: points, report and plots.
            done: how many operating points are complete.
            complete: whether all that were wanted are.
            sentence: the description: the result in words.
        """
        tags = {STATUS: "complete" if complete else "failed", DESCRIPTION: sentence}
        self._log_done(done, params, tags)
        with answering(self._uri):
            for file in sorted(directory.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self._client.log_artifact(self.parent, str(file))
                elif file.name == "plots":
                    self._client.log_artifacts(self.parent, str(file), "plots")
            self._client.set_terminated(self.parent, "FINISHED" if complete else "FAILED")

    def _log_done(self, done: int, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric

        metric = Metric("points_complete", float(done), int(1000 * time.time()), done)
        self._log(self.parent, [metric], params, tags)

    def _child(self, key: str, point: OperatingPoint, began: int | None = None) -> Run:
        """A point's run, which is created if there is none.

        Args:
            began: when its training began, in milliseconds; None for now.
        """
        if key not in self._children:
            tags = {
                PARENT: self.parent,
                KIND: "point",
                POINT_KEY: key,
                SWEEP: self._name,
                STATUS: "running",
                **name_tags(point),
            }
            with answering(self._uri):
                self._children[key] = self._client.create_run(self._experiment, began, tags)
        return self._children[key]

    def _search(self, condition: str) -> list[Run]:
        """All runs that meet a condition, the oldest first."""
        return list(
            self._client.search_runs(
                [self._experiment],
                condition,
                max_results=_MOST_RUNS,
                order_by=["attributes.start_time ASC"],
            )
        )

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> None:
        """Log any number of metrics, parameters and tags; MLflow cuts long values."""
        from mlflow.entities import Param, RunTag

        with answering(self._uri):
            self._client.log_batch(
                run_id,
                metrics,
                [Param(name, str(value)) for name, value in params.items()],
                [RunTag(name, value) for name, value in tags.items()],
            )

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        self._log(run.info.run_id, [], {}, tags)
