"""MLflow: making the tracking server say what the storage says, however often it is asked.

    parent run (tag bridgesweep.sweep) --mlflow.parentRunId-- child run (tag bridgesweep.point_key)

Only the driver writes. Everything is found again by its tags and written with the time at which
the storage got it, so doing it twice changes nothing. A server that is away only means later.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from orchestrator.storage.store import Store
from orchestrator.tracking.points_file import Measured
from orchestrator.tracking.run_content import (
    FORMAT,
    VARIANT,
    metrics_of,
    name_tags,
    params_of,
    tags_of,
)
from orchestrator.validation.inputs import safe_uri
from search_spaces import OperatingPoint

EXPERIMENT = "bridgesweep"
PARENT = "mlflow.parentRunId"
KIND, SWEEP = "bridgesweep.kind", "bridgesweep.sweep"
POINT_KEY, STATUS, CONTENT = (
    "bridgesweep.point_key",
    "bridgesweep.status",
    "bridgesweep.content",
)
# MLflow takes at most this many in one request.
_BATCH_METRICS, _BATCH_PARAMS, _BATCH_TAGS = 1000, 100, 100
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000

_T = TypeVar("_T")


class AwayError(RuntimeError):
    """The tracking server does not answer."""


def default_uri(store: Store) -> str:
    """SQLite under the storage; beside a remote one there is no place for it but here."""
    return f"sqlite:///{Path(store.root if not store.remote else '.').resolve()}/mlflow.db"


def open_command(uri: str) -> str:
    """What opens the MLflow UI on a tracking URI."""
    if uri.startswith(("http://", "https://")):
        return f"open {uri}"
    return f"mlflow ui --backend-store-uri {uri}"


class Tracker:
    """Writes a sweep to MLflow.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.
        name: the sweep's name.
    """

    def __init__(self, uri: str, artifacts: str | None, name: str) -> None:
        # Asked again and again at the defaults, a server that is away would hold us for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._uri = uri
        self._client: Any = self._try(MlflowClient, uri)
        self._name = name
        self._experiment = self._try(self._find_experiment, artifacts)
        self.parent = self._try(self._find_parent)
        self._known = self._try(self._find_children)

    def _try(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Call, and turn what a server that is away or refuses us causes into `AwayError`."""
        from mlflow.exceptions import MlflowException

        try:
            return work(*arguments)
        except (MlflowException, OSError) as error:
            code = getattr(error, "error_code", None)
            if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"):
                raise  # our own mistake, not the server's absence
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            password = urlsplit(self._uri).password
            text = text.replace(self._uri, safe_uri(self._uri))
            raise AwayError(text.replace(password, "***") if password else text) from None

    def _find_experiment(self, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        # The UI then opens on runs and their metrics, not on traces of a chat.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(
            self._client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=kind)
        )

    def _find_parent(self) -> str:
        runs = self._search(f"tags.`{KIND}` = 'sweep' and tags.`{SWEEP}` = '{self._name}'")
        if runs:
            return str(min(runs, key=lambda run: run.info.start_time).info.run_id)
        tags = {KIND: "sweep", SWEEP: self._name, "mlflow.runName": self._name}
        created = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        return str(created.info.run_id)

    def _find_children(self) -> dict[str, Any]:
        """Point key -> run. A second run of a key can only come from two drivers at once."""
        found: dict[str, Any] = {}
        for run in self._search(f"tags.`{PARENT}` = '{self.parent}'"):
            key = run.data.tags.get(POINT_KEY)
            if key is None:
                continue
            if key in found:
                self._client.delete_run(run.info.run_id)
                continue
            found[key] = run
        return found

    def _search(self, text: str) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], text, order_by=["attributes.start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def run_ids(self) -> dict[str, str]:
        """Point key -> run id of all children."""
        return {key: str(run.info.run_id) for key, run in self._known.items()}

    def point(self, one: Measured) -> str:
        """Log a complete point unless it is logged already; returns its run id.

        Raises:
            AwayError: the server does not answer.
        """
        return self._try(self._point, one)

    def _point(self, one: Measured) -> str:
        content = ",".join((FORMAT, *(Path(m["stage"]).name for m in one.manifests)))
        known = self._known.get(one.key)
        if known is not None:
            tags = known.data.tags
            if tags.get(STATUS) == "complete" and tags.get(CONTENT) == content:
                if tags.get(VARIANT, "") != one.point.variant:
                    self._rename(str(known.info.run_id), one.point)
                return str(known.info.run_id)
        first = one.manifests[0]
        run_id = self._child(one.key, one.point, first["created"] - first["seconds"])
        self._batch(run_id, metrics_of(one), params_of(one), tags_of(one))
        with tempfile.TemporaryDirectory() as scratch:
            files = Path(scratch)
            (files / "spec.json").write_text(json.dumps(one.spec, indent=1), encoding="utf-8")
            text = json.dumps(one.provenance, indent=1)
            (files / "provenance.json").write_text(text, encoding="utf-8")
            one.samples.to_parquet(files / "samples.parquet", index=False)
            (files / "examples").mkdir()
            for page in (example["page"] for example in one.examples):
                shutil.copy(one.files[page], files / "examples" / Path(page).name)
            self._client.log_artifacts(run_id, scratch)
        # Last: a run that says it is complete is.
        self._client.set_tag(run_id, CONTENT, content)
        self._client.set_tag(run_id, STATUS, "complete")
        self._client.set_terminated(run_id, "FINISHED", int(1000 * one.manifests[-1]["created"]))
        self._known[one.key] = self._client.get_run(run_id)
        return run_id

    def _rename(self, run_id: str, point: OperatingPoint) -> None:
        """The space calls the point's variant something else now."""
        for name, value in {VARIANT: "", **name_tags(point)}.items():
            self._client.set_tag(run_id, name, value)

    def missing(self, key: str, point: OperatingPoint, reason: str) -> None:
        """Say of a point that it is missing, unless it was complete before."""
        self._try(self._missing, key, point, reason)

    def _missing(self, key: str, point: OperatingPoint, reason: str) -> None:
        known = self._known.get(key)
        if known is not None and known.data.tags.get(STATUS) == "complete":
            return
        run_id = self._child(key, point)
        self._client.set_tag(run_id, STATUS, "failed")
        self._client.set_tag(run_id, "bridgesweep.reason", reason[:_TAG_LENGTH])
        self._client.set_terminated(run_id, "FAILED")

    def _child(self, key: str, point: OperatingPoint, began: float | None = None) -> str:
        known = self._known.get(key)
        if known is not None:
            return str(known.info.run_id)
        tags = {
            PARENT: self.parent,
            KIND: "point",
            POINT_KEY: key,
            SWEEP: self._name,
            STATUS: "running",
            **name_tags(point),
        }
        run = self._client.create_run(
            self._experiment,
            start_time=None if began is None else int(1000 * began),
            tags=tags,
            run_name=point.label,
        )
        self._known[key] = run
        return str(run.info.run_id)

    def trial(self, one: Mapping[str, Any]) -> None:
        """Log a search's trial, a `search.Trial` as data, unless it is logged already.

        Raises:
            AwayError: the server does not answer.
        """
        self._try(self._trial, one)

    def _trial(self, one: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        content = f"{one['key']},{one['status']}"
        of = f"tags.`{PARENT}` = '{self.parent}' and tags.`{CONTENT}` = '{content}'"
        if self._search(of):
            return
        tags = {PARENT: self.parent, KIND: "trial", SWEEP: self._name, STATUS: one["status"]}
        name = ", ".join(f"{path}={value}" for path, value in one["settings"].items())
        run = self._client.create_run(self._experiment, tags=tags, run_name=f"trial {name}"[:250])
        now = int(run.info.start_time)
        metrics = [Metric("val_loss", loss, now, step) for step, loss in one["curve"]]
        if one["val_loss"] is not None:
            metrics.append(Metric("best_val_loss", one["val_loss"], now, 0))
        self._batch(run.info.run_id, metrics, one["settings"], {CONTENT: content})
        failed = one["status"] == "failed"
        self._client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")

    def stale(self, keys: set[str]) -> None:
        """Mark children that the space no longer has (their settings changed)."""
        for key, run in self._known.items():
            if key not in keys and run.data.tags.get(STATUS) != "stale":
                self._try(self._client.set_tag, run.info.run_id, STATUS, "stale")

    def running(self, table: Path, plots: Path, done: int, sentence: str) -> None:
        """Show on the parent what an unfinished sweep has come to.

        Args:
            table: a CSV of the points so far.
            plots: a directory of their figures.
            done: how many operating points are complete; a metric, for its course over time.
            sentence: the description.

        Raises:
            AwayError: the server does not answer.
        """

        def work() -> None:
            from mlflow.entities import Metric

            metric = Metric("points_complete", float(done), int(1000 * time.time()), done)
            tags = {STATUS: "running", "mlflow.note.content": sentence}
            self._batch(self.parent, [metric], {}, tags)
            self._client.log_artifact(self.parent, str(table))
            self._client.log_artifacts(self.parent, str(plots), "plots")
            self._client.update_run(self.parent, "RUNNING")

        self._try(work)

    def finish(
        self, directory: Path, params: Mapping[str, Any], complete: bool, sentence: str
    ) -> None:
        """Give the parent its artifacts: the points, the report, the plots; and its description.

        Args:
            sentence: what the sweep found, in words.
        """

        def work() -> None:
            tags = {STATUS: "complete" if complete else "failed", "mlflow.note.content": sentence}
            self._batch(self.parent, [], dict(params), tags)
            for file in sorted(directory.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self._client.log_artifact(self.parent, str(file))
                elif file.name == "plots":
                    self._client.log_artifacts(self.parent, str(file), "plots")
            self._client.set_terminated(self.parent, "FINISHED" if complete else "FAILED")

        self._try(work)

    def _batch(
        self, run_id: str, metrics: list[Any], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Param, RunTag

        listed = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
        marked = [RunTag(name, value[:_TAG_LENGTH]) for name, value in tags.items()]
        for start in range(0, max(len(metrics), 1), _BATCH_METRICS - 200):
            first = start == 0
            self._client.log_batch(
                run_id,
                metrics[start : start + _BATCH_METRICS - 200],
                listed[:_BATCH_PARAMS] if first else [],
                marked[:_BATCH_TAGS] if first else [],
            )
