"""Runs of an MLflow store, many at once: from a SQLite file directly, else through MLflow's client.

MLflow's client takes seconds to import and is slow with thousands of values (an object each). The
five tables of a SQLite file are read directly, read-only; their columns are checked first.
"""

from __future__ import annotations

import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from analysis.io.files import exists, join, read_bytes
from analysis.io.names import without_secrets
from analysis.io.schema import AnalysisError

KIND: Final = "bridgesweep.kind"
PARENT: Final = "mlflow.parentRunId"
PAGE: Final = 1000
TIMEOUT_S: Final = 5.0
TABLES: Final = {
    "experiments": {"experiment_id", "name", "lifecycle_stage"},
    "runs": {"run_uuid", "experiment_id", "start_time", "lifecycle_stage", "artifact_uri"},
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
}
"""MLflow's tables, and the columns of them that are read."""


@dataclass(frozen=True)
class Run:
    """A run: of its metrics the latest values."""

    run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class RunStore(Protocol):
    """Where runs are read from."""

    def experiments(self) -> dict[str, str]:
        """Name -> id of the experiments that are not deleted."""

    def runs(self, experiment: str, kind: str, parent: str | None = None) -> list[Run]:
        """Runs with the tag `bridgesweep.kind`, newest first; with a parent, its children."""

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """The bytes of a run's artifact; None where it has none of that name."""


def open_store(tracking: str) -> RunStore:
    """The store behind a tracking URI.

    Raises:
        AnalysisError: no such file, not MLflow's, or a server that does not answer.
    """
    safe = without_secrets(tracking)
    scheme = urlsplit(tracking).scheme
    if scheme == "sqlite":
        path = tracking.removeprefix("sqlite:///").partition("?")[0]
        if not Path(path).is_file():  # MLflow would make a new database
            raise AnalysisError(f"{safe}: no such database file")
        return _Sqlite(path, tracking, safe)
    if scheme in ("http", "https"):
        _check_answers(tracking, safe)
    return _Client(tracking, safe)


def _check_answers(tracking: str, safe: str) -> None:
    """Fail within seconds, where MLflow would retry for minutes.

    Any answer is accepted, also a refusal, except a server error.
    """
    try:
        plain = without_secrets(tracking).replace("***@", "")
        urllib.request.urlopen(f"{plain.rstrip('/')}/health", timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            status = f"HTTP {error.code} {error.reason}"
            raise AnalysisError(f"{safe}: the MLflow server does not answer ({status})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AnalysisError(f"{safe}: the MLflow server does not answer ({reason})") from None


class _Sqlite:
    def __init__(self, path: str, tracking: str, safe: str) -> None:
        self._uri = f"file:{quote(str(Path(path).resolve()))}?mode=ro"
        self._tracking, self._safe = tracking, safe
        self._folders: dict[str, str] = {}
        for table, needed in TABLES.items():
            columns = {str(row[1]) for row in self._rows(f"PRAGMA table_info({table})")}
            if not needed <= columns:
                raise AnalysisError(
                    f"{safe}: not a database of MLflow's as it is known here: table {table} lacks "
                    f"{', '.join(sorted(needed - columns))}"
                )

    def _rows(self, query: str, *values: str) -> list[Any]:
        try:
            with closing(sqlite3.connect(self._uri, uri=True, timeout=TIMEOUT_S)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise AnalysisError(f"{self._safe}: SQLite: {error}") from None

    def experiments(self) -> dict[str, str]:
        rows = self._rows(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        )
        return {str(name): str(number) for name, number in rows}

    def runs(self, experiment: str, kind: str, parent: str | None = None) -> list[Run]:
        wanted = (
            "SELECT r.run_uuid FROM runs r JOIN tags k ON k.run_uuid = r.run_uuid "
            "AND k.key = ? AND k.value = ? "
            "WHERE r.experiment_id = ? AND r.lifecycle_stage = 'active'"
        )
        values = [KIND, kind, experiment]
        if parent is not None:
            wanted += (
                " AND EXISTS (SELECT 1 FROM tags p WHERE p.run_uuid = r.run_uuid "
                "AND p.key = ? AND p.value = ?)"
            )
            values += [PARENT, parent]
        ordered = self._rows(
            f"SELECT run_uuid, artifact_uri FROM runs WHERE run_uuid IN ({wanted}) "
            "ORDER BY start_time DESC, run_uuid",
            *values,
        )
        self._folders |= {str(run): str(folder) for run, folder in ordered}
        kept: dict[str, tuple[dict[str, str], dict[str, str], dict[str, float]]]
        kept = {str(run): ({}, {}, {}) for run, _ in ordered}
        for number, table in enumerate(("tags", "params")):
            query = f"SELECT run_uuid, key, value FROM {table} WHERE run_uuid IN ({wanted})"
            for run, key, value in self._rows(query, *values):
                kept[run][number][key] = value
        metrics = (
            f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({wanted})"
        )
        for run, key, value, is_nan in self._rows(metrics, *values):
            kept[run][2][key] = float("nan") if is_nan else float(value)
        return [Run(run, *content) for run, content in kept.items()]

    def artifact(self, run_id: str, name: str) -> bytes | None:
        folder = self._folders.get(run_id, "")
        if urlsplit(folder).scheme == "mlflow-artifacts":  # only its server knows where that is
            return _Client(self._tracking, self._safe).artifact(run_id, name)
        try:
            path = join(folder, name)
            return read_bytes(path) if exists(path) else None
        except (OSError, ValueError, ImportError) as error:
            raise AnalysisError(f"{self._safe}: artifact {name}: {error}") from None


class _Client:
    def __init__(self, tracking: str, safe: str) -> None:
        from mlflow.tracking import MlflowClient

        self._tracking, self._safe = tracking, safe
        self._client = self._asked(lambda: MlflowClient(tracking_uri=tracking))

    def _asked(self, request: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return request()
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason = without_secrets(str(error)).splitlines()[0]
            raise AnalysisError(f"{self._safe}: MLflow: {reason}") from None

    def experiments(self) -> dict[str, str]:
        experiments = self._asked(self._client.search_experiments)
        return {str(experiment.name): str(experiment.experiment_id) for experiment in experiments}

    def runs(self, experiment: str, kind: str, parent: str | None = None) -> list[Run]:
        query = f"tags.`{KIND}` = '{kind}'"
        if parent is not None:
            query += f" and tags.`{PARENT}` = '{parent}'"
        return [
            Run(r.info.run_id, dict(r.data.tags), dict(r.data.params), dict(r.data.metrics))
            for r in self._asked(lambda: list(self._pages(experiment, query)))
        ]

    def _pages(self, experiment: str, query: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [experiment],
                query,
                max_results=PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def artifact(self, run_id: str, name: str) -> bytes | None:
        return self._asked(lambda: self._download(run_id, name))  # type: ignore[no-any-return]

    def _download(self, run_id: str, name: str) -> bytes | None:
        if name not in {file.path for file in self._client.list_artifacts(run_id)}:
            return None
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory() as folder:
            path = download_artifacts(
                run_id=run_id, artifact_path=name, dst_path=folder, tracking_uri=self._tracking
            )
            return Path(path).read_bytes()
