"""The few calls of MLflow's client that this project makes, for one experiment.

Every call raises `AwayError` where the server does not answer or refuses it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from orchestrator.validation.inputs import without_password

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

EXPERIMENT = "bridgesweep"
# MLflow takes at most this many in one request; metrics, parameters and tags together 1000.
_BATCH_METRICS, _BATCH_PARAMS, _BATCH_TAGS = 800, 100, 100
_PARAM_LENGTH, TAG_LENGTH = 6000, 5000
_CALLER_MISTAKES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AwayError(RuntimeError):
    """The tracking server does not answer."""


class ExperimentClient:
    """Runs of this project's experiment on a tracking server or in a database.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.

    Raises:
        AwayError: the server does not answer.
    """

    def __init__(self, uri: str, artifacts: str | None) -> None:
        # At the defaults, each call to a server that is away would last minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient  # seconds, and only after its environment is set

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._uri = uri
        self._client = self._call(MlflowClient, uri)
        self._experiment = self._call(_find_experiment, self._client, artifacts)

    def search(self, filter_string: str) -> list[Run]:
        """All runs that match a filter, the oldest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._call(
                self._client.search_runs,
                [self._experiment],
                filter_string,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def get(self, run_id: str) -> Run:
        """A run as it is now."""
        return self._call(self._client.get_run, run_id)

    def create(self, name: str, tags: Mapping[str, str], start_time: int | None = None) -> Run:
        """A new run.

        Args:
            start_time: milliseconds; None for now.
        """
        return self._call(
            self._client.create_run,
            self._experiment,
            start_time=start_time,
            tags=dict(tags),
            run_name=name,
        )

    def delete(self, run_id: str) -> None:
        """Delete a run."""
        self._call(self._client.delete_run, run_id)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> None:
        """Log any number of metrics, and at most 100 parameters and tags; long values are cut."""
        from mlflow.entities import Param, RunTag

        param_list = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
        tag_list = [RunTag(name, value[:TAG_LENGTH]) for name, value in tags.items()]
        for start in range(0, max(len(metrics), 1), _BATCH_METRICS):
            first = start == 0
            self._call(
                self._client.log_batch,
                run_id,
                metrics[start : start + _BATCH_METRICS],
                param_list[:_BATCH_PARAMS] if first else [],
                tag_list[:_BATCH_TAGS] if first else [],
            )

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        """Set a tag."""
        self._call(self._client.set_tag, run_id, name, value[:TAG_LENGTH])

    def log_artifact(self, run_id: str, file: Path) -> None:
        """Upload a file."""
        self._call(self._client.log_artifact, run_id, str(file))

    def log_artifacts(self, run_id: str, directory: Path, path: str | None = None) -> None:
        """Upload a directory's files, to a folder of that path."""
        self._call(self._client.log_artifacts, run_id, str(directory), path)

    def set_running(self, run_id: str) -> None:
        """Give a run the status RUNNING."""
        self._call(self._client.update_run, run_id, "RUNNING")

    def terminate(self, run_id: str, failed: bool, end_time: int | None = None) -> None:
        """End a run.

        Args:
            end_time: milliseconds; None for now.
        """
        status = "FAILED" if failed else "FINISHED"
        self._call(self._client.set_terminated, run_id, status, end_time)

    def _call(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call; errors of a server that is away or refuses the request become `AwayError`."""
        from mlflow.exceptions import MlflowException

        try:
            return call(*args, **kwargs)
        except (MlflowException, OSError) as error:
            if getattr(error, "error_code", None) in _CALLER_MISTAKES:
                raise  # a mistake of this program, not the server's absence
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise AwayError(without_password(text, self._uri)) from None


def _find_experiment(client: MlflowClient, artifacts: str | None) -> str:
    experiment: Experiment | None = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)
    # The UI then opens on runs and their metrics, not on traces of a chat.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=kind))
