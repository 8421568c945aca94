"""The runs of a sweep in MLflow, which repeat what the storage holds.

    parent run (tag bridgesweep.sweep) --mlflow.parentRunId-- child run (tag bridgesweep.point_key)

Only the driver writes. Runs are found again by their tags, and metrics are written with the time at
which the storage got them, so logging twice changes nothing. While the server is away nothing is
lost: the next sweep logs it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.storage.store import Store
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import ExperimentClient
from orchestrator.tracking.run_content import (
    FORMAT,
    VARIANT,
    metrics_of,
    name_tags,
    params_of,
    tags_of,
)
from search_spaces import OperatingPoint

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
KIND, SWEEP = "bridgesweep.kind", "bridgesweep.sweep"
POINT_KEY, STATUS, CONTENT = (
    "bridgesweep.point_key",
    "bridgesweep.status",
    "bridgesweep.content",
)
_RUN_NAME_LENGTH = 250


def default_uri(store: Store) -> str:
    """SQLite in a local storage; with a remote one, in the working directory."""
    return f"sqlite:///{Path(store.root if not store.remote else '.').resolve()}/mlflow.db"


def open_command(uri: str) -> str:
    """What opens the MLflow UI on a tracking URI."""
    if uri.startswith(("http://", "https://")):
        return f"open {uri}"
    return f"mlflow ui --backend-store-uri {uri}"


@dataclass(frozen=True)
class TrialRun:
    """A trial of a search, as it is logged.

    Attributes:
        settings: dotted path -> value.
        key: of the operating point under these settings.
        status: `finished`, `stopped` (early) or `failed`.
        val_loss: the lowest validation loss; None if there is none.
        curve: (step, validation loss).
    """

    settings: Mapping[str, object]
    key: str
    status: str
    val_loss: float | None
    curve: Sequence[tuple[int, float]]


class Tracker:
    """Writes a sweep to MLflow; every method raises `AwayError` if the server does not answer.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.
        name: the sweep's name.

    Attributes:
        parent: id of the sweep's run.
    """

    def __init__(self, uri: str, artifacts: str | None, name: str) -> None:
        self._client = ExperimentClient(uri, artifacts)
        self._name = name
        self.parent = self._find_parent()
        self._children = self._find_children()

    def _find_parent(self) -> str:
        runs = self._client.search(f"tags.`{KIND}` = 'sweep' and tags.`{SWEEP}` = '{self._name}'")
        if runs:
            return str(min(runs, key=lambda run: int(run.info.start_time)).info.run_id)
        tags = {KIND: "sweep", SWEEP: self._name, "mlflow.runName": self._name}
        return str(self._client.create(self._name, tags).info.run_id)

    def _find_children(self) -> dict[str, Run]:
        """Point key -> run. A second run of a key can only come from two drivers at once."""
        children: dict[str, Run] = {}
        for run in self._client.search(f"tags.`{PARENT}` = '{self.parent}'"):
            key = run.data.tags.get(POINT_KEY)
            if key is None:
                continue
            if key in children:
                self._client.delete(run.info.run_id)
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
                    self._rename(str(child.info.run_id), measured.point)
                return str(child.info.run_id)
        first = measured.manifests[0]
        run_id = self._child(measured.key, measured.point, first["created"] - first["seconds"])
        self._client.log(run_id, metrics_of(measured), params_of(measured), tags_of(measured))
        with tempfile.TemporaryDirectory() as scratch:
            _write_artifacts(measured, Path(scratch))
            self._client.log_artifacts(run_id, Path(scratch))
        # Last: a run with the status `complete` has everything.
        self._client.set_tag(run_id, CONTENT, content)
        self._client.set_tag(run_id, STATUS, "complete")
        self._client.terminate(
            run_id, failed=False, end_time=int(1000 * measured.manifests[-1]["created"])
        )
        self._children[measured.key] = self._client.get(run_id)
        return run_id

    def log_missing(self, key: str, point: OperatingPoint, reason: str) -> None:
        """Mark a point as failed, unless it was complete before.

        Args:
            key: of the point.
        """
        child = self._children.get(key)
        if child is not None and child.data.tags.get(STATUS) == "complete":
            return
        run_id = self._child(key, point)
        self._client.set_tag(run_id, STATUS, "failed")
        self._client.set_tag(run_id, "bridgesweep.reason", reason)
        self._client.terminate(run_id, failed=True)

    def log_trial(self, trial: TrialRun) -> None:
        """Log a trial of a search unless it is logged already."""
        from mlflow.entities import Metric

        content = f"{trial.key},{trial.status}"
        same = f"tags.`{PARENT}` = '{self.parent}' and tags.`{CONTENT}` = '{content}'"
        if self._client.search(same):
            return
        tags = {PARENT: self.parent, KIND: "trial", SWEEP: self._name, STATUS: trial.status}
        name = ", ".join(f"{path}={value}" for path, value in trial.settings.items())
        run = self._client.create(f"trial {name}"[:_RUN_NAME_LENGTH], tags)
        now = int(run.info.start_time)
        metrics = [Metric("val_loss", loss, now, step) for step, loss in trial.curve]
        if trial.val_loss is not None:
            metrics.append(Metric("best_val_loss", trial.val_loss, now, 0))
        self._client.log(run.info.run_id, metrics, trial.settings, {CONTENT: content})
        self._client.terminate(run.info.run_id, failed=trial.status == "failed")

    def mark_stale(self, keys: set[str]) -> None:
        """Mark the children whose point is no longer in the space: its settings changed.

        Args:
            keys: of the points that the space has.
        """
        for key, run in self._children.items():
            if key not in keys and run.data.tags.get(STATUS) != "stale":
                self._client.set_tag(run.info.run_id, STATUS, "stale")

    def show_progress(self, table: Path, plots: Path, done: int, sentence: str) -> None:
        """Give the parent run the figures and the table of an unfinished sweep.

        Args:
            table: a CSV of the points so far.
            plots: a directory of their figures.
            done: how many operating points are complete; a metric, for its course over time.
            sentence: the description.
        """
        from mlflow.entities import Metric

        metric = Metric("points_complete", float(done), int(1000 * time.time()), done)
        self._client.log(self.parent, [metric], {}, {STATUS: "running", DESCRIPTION: sentence})
        self._client.log_artifact(self.parent, table)
        self._client.log_artifacts(self.parent, plots, "plots")
        self._client.set_running(self.parent)

    def finish(
        self, directory: Path, params: Mapping[str, object], complete: bool, sentence: str
    ) -> None:
        """Give the parent run its artifacts and description, and end it.

        Args:
            directory: the sweep's: points, report and plots.
            sentence: the description: the result in words.
        """
        tags = {STATUS: "complete" if complete else "failed", DESCRIPTION: sentence}
        self._client.log(self.parent, [], params, tags)
        for file in sorted(directory.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                self._client.log_artifact(self.parent, file)
            elif file.name == "plots":
                self._client.log_artifacts(self.parent, file, "plots")
        self._client.terminate(self.parent, failed=not complete)

    def _rename(self, run_id: str, point: OperatingPoint) -> None:
        """Follow a variant's new name."""
        for name, value in {VARIANT: "", **name_tags(point)}.items():
            self._client.set_tag(run_id, name, value)

    def _child(self, key: str, point: OperatingPoint, began: float | None = None) -> str:
        """The id of a point's run, which is created if there is none.

        Args:
            began: when its training began, in seconds; None for now.
        """
        child = self._children.get(key)
        if child is not None:
            return str(child.info.run_id)
        tags = {
            PARENT: self.parent,
            KIND: "point",
            POINT_KEY: key,
            SWEEP: self._name,
            STATUS: "running",
            **name_tags(point),
        }
        run = self._client.create(point.label, tags, None if began is None else int(1000 * began))
        self._children[key] = run
        return str(run.info.run_id)


def open_tracker(store: Store, uri: str | None, name: str) -> Tracker:
    """What logs a sweep.

    Args:
        store: holds the database and the artifacts where `uri` is None.
        uri: tracking URI.
        name: the sweep's.

    Raises:
        AwayError: the server does not answer.
    """
    uri = uri or default_uri(store)
    in_storage = uri.startswith("sqlite:") and not store.remote
    artifacts = (Path(store.root) / "mlruns").as_uri() if in_storage else None
    return Tracker(uri, artifacts, name)


def _write_artifacts(measured: Measured, directory: Path) -> None:
    """Write the artifacts of a point's run: spec, provenance, samples, examples."""
    (directory / "spec.json").write_text(json.dumps(measured.spec, indent=1), encoding="utf-8")
    provenance = json.dumps(measured.provenance, indent=1)
    (directory / "provenance.json").write_text(provenance, encoding="utf-8")
    measured.samples.to_parquet(directory / "samples.parquet", index=False)
    (directory / "examples").mkdir()
    for page in (example["page"] for example in measured.examples):
        shutil.copy(measured.files[page], directory / "examples" / Path(page).name)
