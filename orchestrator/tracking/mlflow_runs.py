"""The runs of a sweep in MLflow, which repeat what the storage holds.

    parent run (kind `sweep`) --mlflow.parentRunId--> child runs (kinds `point`, `codec`, `trial`)

Only a sweep's driver and its recorder write, never both at a time. Runs are found again by the tag
`bridgesweep.sweep_id`, whatever names other sweeps have, and what a run has is not written again.
While the server is away nothing is lost: the next sweep logs it.

Calls of the client: two to open a sweep; of a point or a codec at most about 15 from its first row
to its end (the run, seven for 500 rows of 12 metrics with its parameters and values, its artifacts,
its end), and those for live rows, at most one in ten seconds, and one a second for all points
together; of the sweep's run, one in ten seconds for the number of complete points.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from orchestrator.storage.store import Manifest
from orchestrator.tracking.child_runs import (
    CONTENT,
    KIND,
    OWNER,
    PARENT,
    REASON,
    STATUS,
    SWEEP,
    SWEEP_ID,
    ChildRun,
    ChildRuns,
)
from orchestrator.tracking.curves import CurveRow
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import CheckPlace, Client, storage_answering
from orchestrator.tracking.mlflow_copy import MlflowCopy
from orchestrator.tracking.parent_run import ParentRun
from orchestrator.tracking.run_content import (
    FORMAT,
    VARIANT,
    RunSubject,
    curve_rows,
    metrics_of,
    name_tags,
    point_subject,
    provenance_tags,
    tags_of,
    write_artifacts,
)
from orchestrator.tracking.sweep_identity import SweepIdentity

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Metric, Run

_RUN_NAME_LENGTH: Final = 250
_MOST_RUNS: Final = 50_000
"""The most that MLflow returns at once."""


@dataclass
class TrialRecord:
    """A trial of a search: its settings and what came of it.

    Attributes:
        settings: dotted path -> value.
        key: of the operating point under these settings; of several points, a hash of theirs.
        status: `running`, `finished`, `stopped` (by ASHA, early) or `failed`.
        val_loss: the lowest validation loss so far, of several points the lowest mean over those
            that have begun; None if there is none.
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
    """Writes a sweep to MLflow.

    Every method raises `AwayError` if the server, or the storage, does not answer, and
    `RefusedError` if the server refuses what the method is for.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.
        sweep: whose runs are written.
        copy: of the database and the artifacts, where a remote storage holds them.
        check_place: as of `Client`.

    Attributes:
        sweep_run: the parent run.
    """

    def __init__(
        self,
        uri: str,
        artifacts: str | None,
        sweep: SweepIdentity,
        copy: MlflowCopy | None = None,
        check_place: CheckPlace | None = None,
    ) -> None:
        self._sweep, self.copy = sweep, copy
        self._client = Client(uri, check_place)
        self._experiment = self._client.experiment_id(sweep.experiment, artifacts)
        runs = self._client.call(
            self._client.mlflow.search_runs,
            [self._experiment],
            f"tags.`{SWEEP_ID}` = '{sweep.id}'",
            max_results=_MOST_RUNS,
            order_by=["attributes.start_time ASC"],
        )
        of_kind: dict[str, list[Run]] = {}
        for run in runs:
            of_kind.setdefault(run.data.tags.get(KIND, ""), []).append(run)
        self._trials = {run.data.tags.get(CONTENT) for run in of_kind.get("trial", ())}
        place = self._client, self._experiment, sweep
        self.sweep_run = ParentRun(*place, of_kind.get("sweep", []), self._adopt)
        self._children = ChildRuns(*place, self.sweep_run.id, runs)

    def _adopt(self, parent: str) -> None:
        self._children.adopt(parent)

    @property
    def parent(self) -> str:
        """Id of the sweep's run."""
        return self.sweep_run.id

    @property
    def calls(self) -> Counter[str]:
        """Name of a method of MLflow's client -> how often it was called."""
        return self._client.calls

    @property
    def refusals(self) -> list[str]:
        """What was refused besides errors; whoever shows it empties the list."""
        return self._children.refusals

    @property
    def page(self) -> str:
        """The page of the UI with the sweep's points and codecs, and a chart per metric."""
        children = (
            f"tags.`{SWEEP_ID}` = '{self._sweep.id}' and tags.`{KIND}` != 'sweep' "
            f"and tags.`{STATUS}` != 'stale'"
        )
        # In any other order than this page's first one, the UI hides the children below the sweep.
        options = {
            "searchFilter": children,
            "orderByKey": "tags.`mlflow.runName`",
            "orderByAsc": "true",
            "compareRunsMode": "CHART",
        }
        return f"#/experiments/{self._experiment}/runs?{urlencode(options, quote_via=quote)}"

    def ask(self) -> None:
        """Ask the server something simple, to see whether it answers."""
        self._client.call(self._client.mlflow.get_experiment, self._experiment)

    def run_ids(self) -> dict[str, str]:
        """Key -> run id of all operating points that have a run."""
        return {key: run.id for key, run in self._children.items("point")}

    def log_live(self, subject: RunSubject, rows: Sequence[CurveRow]) -> None:
        """Show rows of a training that runs in its run, which is made with the first."""
        run = self._children.get(subject.key)
        if run is None or run.status != "complete":
            self._children.write(subject, lambda run: self._children.log_live(run, rows))

    def log_point(self, measured: Measured) -> str:
        """Log a complete point unless it is logged already; returns its run id."""
        content = ",".join((FORMAT, *(Path(m["stage"]).name for m in measured.manifests)))
        child = self._children.get(measured.key)
        if child is not None and (child.status, child.tags.get(CONTENT)) == ("complete", content):
            if child.tags.get(VARIANT, "") != measured.point.variant:
                # The variant has a new name.
                names = {VARIANT: "", **name_tags(measured.point)}
                self._children.update(measured.key, names)
            return child.id
        subject = point_subject(measured.key, measured.point, measured.spec)
        first, last = measured.manifests[0], measured.manifests[-1]
        with tempfile.TemporaryDirectory() as scratch:
            with storage_answering():
                write_artifacts(measured, Path(scratch))
                rows = curve_rows(measured.curve(), first)

            def write(run: ChildRun) -> None:
                self._children.log_params(run, subject.params)
                self._client.upload(run.id, Path(scratch))
                self._children.end(run, "FINISHED", int(1000 * last["created"]))
                tags = {**subject.tags, **tags_of(measured)}
                self._complete(run, rows, metrics_of(measured), tags, "complete", content)

            began = int(1000 * (first["created"] - first["seconds"]))
            return self._children.write(subject, write, began).id

    def is_trained(self, key: str) -> bool:
        """Whether a codec, or a point that nobody measures, is logged.

        Args:
            key: of its stage.
        """
        run = self._children.get(key)
        return run is not None and run.status in ("complete", "trained")

    def log_trained(
        self, subject: RunSubject, manifest: Manifest, curve: Sequence[Mapping[str, float]]
    ) -> None:
        """Log what was trained and is not measured.

        Args:
            subject: a base codec, or an operating point that only others start from.
            manifest: of its stage.
            curve: the rows of its training curve.
        """
        from mlflow.entities import Metric

        rows = curve_rows(curve, manifest)
        status = "complete" if subject.kind == "codec" else "trained"
        created_ms = int(1000 * manifest["created"])

        def write(run: ChildRun) -> None:
            self._children.log_params(run, subject.params)
            seconds = Metric("seconds/train", float(manifest["seconds"]), created_ms, 0)
            self._children.end(run, "FINISHED", created_ms)
            tags = {**subject.tags, **provenance_tags(manifest)}
            self._complete(run, rows, [seconds], tags, status, f"{FORMAT},{subject.key}")

        began = int(1000 * (manifest["created"] - manifest["seconds"]))
        self._children.write(subject, write, began)

    def _complete(
        self,
        run: ChildRun,
        rows: Sequence[CurveRow],
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
        status: str,
        content: str,
    ) -> None:
        """Log what is left, and last the status: a run that has it has everything."""
        status_tags = {CONTENT: content, STATUS: status}
        self._children.log_rest(run, rows, metrics, {**tags, **status_tags})
        if run.tags.pop(REASON, None) is not None:  # of an earlier failure
            self._client.call(self._client.mlflow.delete_tag, run.id, REASON)

    def log_failed(self, subject: RunSubject, reason: str) -> None:
        """Mark a point or a codec as failed, unless it was complete before."""
        self._log_incomplete(subject, "failed", reason, "FAILED")

    def log_cancelled(self, subject: RunSubject) -> None:
        """Mark a point or a codec as cancelled by a person, unless it was complete before."""
        self._log_incomplete(subject, "cancelled", "cancelled by a person", "KILLED")

    def _log_incomplete(self, subject: RunSubject, status: str, reason: str, end: str) -> None:
        """Mark the run of what did not become complete.

        Args:
            end: status of MLflow.
        """

        def write(run: ChildRun) -> None:
            is_known = (run.status, run.tags.get(REASON)) == (status, reason)
            if run.status != "complete" and not is_known:
                self._children.log(run, tags={STATUS: status, REASON: reason})
                self._children.end(run, end)

        self._children.write(subject, write)

    def log_trial(self, trial: TrialRecord) -> None:
        """Log a trial of a search unless it is logged already."""
        from mlflow.entities import Metric

        content = f"{trial.key},{trial.status}"
        if content in self._trials:
            return
        tags = {
            **{PARENT: self.parent, OWNER: self._sweep.owner, KIND: "trial"},
            **{SWEEP: self._sweep.name, SWEEP_ID: self._sweep.id, STATUS: trial.status},
        }
        name = ", ".join(f"{path}={value}" for path, value in trial.settings.items())
        run_name = f"trial {name}"[:_RUN_NAME_LENGTH]
        create = self._client.mlflow.create_run
        info = self._client.call(create, self._experiment, None, tags, run_name).info
        run = ChildRun(str(info.run_id), "trial", tags, {}, is_new=True)
        metrics = [Metric("val_loss", loss, info.start_time, step) for step, loss in trial.curve]
        if trial.val_loss is not None:
            metrics.append(Metric("best_val_loss", trial.val_loss, info.start_time, 0))
        self._children.log_params(run, trial.settings)
        self._children.log(run, metrics, {CONTENT: content})
        self._children.end(run, "FAILED" if trial.status == "failed" else "FINISHED")
        self._trials.add(content)

    def mark_stale(self, keys: set[str]) -> None:
        """Mark the children whose stage is no longer in the space: its settings changed.

        Args:
            keys: of the points and codecs that the space has.
        """
        for key, run in self._children.items():
            if key not in keys and run.status != "stale":
                end = "KILLED" if run.status == "running" else None
                self._children.update(key, {STATUS: "stale"}, end)
