"""MLflow's client and this project's experiment; a server that is away is told from a bug."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from search_spaces.settings.secrets import without_secrets

if TYPE_CHECKING:  # MLflow takes seconds
    from mlflow import MlflowClient

EXPERIMENT = "bridgesweep"
DATABASE = "mlflow.db"
"""File of the database where there is no tracking server."""
_CALLER_MISTAKES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


class AwayError(RuntimeError):
    """The tracking server does not answer."""


class RefusedError(RuntimeError):
    """The tracking server refuses a request: a changed parameter, a deleted run, a limit."""


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Raise `AwayError` or `RefusedError` where calls of MLflow's client fail.

    Args:
        uri: tracking URI, whose password never enters the message.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        password = urlsplit(uri).password
        text = without_secrets(text)
        is_refused = getattr(error, "error_code", None) in _CALLER_MISTAKES
        kind = RefusedError if is_refused else AwayError
        raise kind(text.replace(password, "***") if password else text) from None


def open_experiment(uri: str, artifacts: str | None) -> tuple[MlflowClient, str]:
    """A client, and the id of this project's experiment, which is made if there is none.

    Args:
        uri: tracking URI.
        artifacts: where a new experiment's artifacts go; None lets the server decide.

    Raises:
        AwayError: the server does not answer.
    """
    # At the defaults, each call to a server that is away would last minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # It would print the URI with its password.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow import MlflowClient  # seconds, and only after its environment is set

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with answering(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            # The UI then opens on runs and their metrics, not on traces of a chat.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return client, str(client.create_experiment(EXPERIMENT, artifacts, kind))
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return client, str(experiment.experiment_id)


def take_login(uri: str) -> str:
    """The URI of a tracking server without its login, which MLflow then reads from the environment.

    Whatever MLflow prints, the password is not in it. Databases keep theirs.
    """
    url = urlsplit(uri)
    if url.scheme not in ("http", "https") or not url.password:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(url.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(url.password)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))


def open_command(uri: str) -> str:
    """What opens the MLflow UI on a tracking URI."""
    if uri.startswith(("http://", "https://")):
        return f"open {uri}"
    return f"mlflow ui --backend-store-uri {uri}"
