"""Runs of an MLflow store, many at once, through MLflow's client."""

from __future__ import annotations

import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from analysis.io.schema import AnalysisError
from search_spaces.settings.secrets import without_secrets

KIND: Final = "bridgesweep.kind"
PARENT: Final = "mlflow.parentRunId"
PAGE: Final = 1000
TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class Run:
    """A run: of its metrics the latest values.

    Attributes:
        began: date and time, UTC, to the minute.
    """

    run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    began: str = ""


def open_store(tracking: str) -> RunStore:
    """The store behind a tracking URI.

    Raises:
        AnalysisError: no such file, not MLflow's, a server that does not answer, or MLflow is not
            installed.
    """
    safe = without_secrets(tracking)
    if find_spec("mlflow") is None:
        raise AnalysisError(f"{safe}: mlflow is not installed: pip install mlflow")
    scheme = urlsplit(tracking).scheme
    if scheme == "sqlite":
        _check_database(Path(tracking.removeprefix("sqlite:///").partition("?")[0]), safe)
    if scheme in ("http", "https"):
        _check_answers(tracking, safe)
    return RunStore(tracking, safe)


def _check_database(path: Path, safe: str) -> None:
    """Refuse files in which MLflow would make a new store of its tables."""
    if not path.is_file():
        raise AnalysisError(f"{safe}: no such database file")
    try:
        uri = f"file:{quote(str(path.resolve()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S)) as connection:
            connection.execute("SELECT count(experiment_id) FROM experiments").fetchall()
    except sqlite3.Error as error:
        raise AnalysisError(f"{safe}: not a database of MLflow's: SQLite: {error}") from None


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


class RunStore:
    """Where runs are read from.

    Args:
        tracking: URI of a database or server.
        safe: the same without secrets, for messages.
    """

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
        """Name -> id of the experiments that are not deleted."""
        experiments = self._asked(self._client.search_experiments)
        return {str(experiment.name): str(experiment.experiment_id) for experiment in experiments}

    def runs(self, experiment: str, kind: str, parent: str | None = None) -> list[Run]:
        """Runs with the tag `bridgesweep.kind`, newest first; with a parent, its children."""
        query = f"tags.`{KIND}` = '{kind}'"
        if parent is not None:
            query += f" and tags.`{PARENT}` = '{parent}'"
        return [
            Run(
                r.info.run_id,
                dict(r.data.tags),
                dict(r.data.params),
                dict(r.data.metrics),
                f"{datetime.fromtimestamp(r.info.start_time / 1000, UTC):%Y-%m-%d %H:%M}",
            )
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
        """The bytes of a run's artifact; None where it has none of that name."""
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
