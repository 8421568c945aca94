"""MLflow's client: it counts its calls, and a server that is away is told from a refusal."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from search_spaces.settings.secrets import without_secrets

DATABASE = "mlflow.db"
"""File of the database where there is no tracking server."""
_REFUSALS = (
    *("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "NOT_IMPLEMENTED"),
    *("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_LIMIT_EXCEEDED"),
)
"""MLflow's codes of errors that another try would meet again."""
_BUSY: Final = (429, 502, 503, 504)
"""HTTP statuses of a server, or a proxy before it, that may take the next try."""
_NO_PLACE: Final = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}
"""Errors of a directory that takes no artifacts."""
log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
CheckPlace = Callable[[str], None]


class AwayError(RuntimeError):
    """The tracking server does not answer."""


class RefusedError(RuntimeError):
    """The tracking server refuses a request: a changed parameter, a deleted run, a limit; or
    artifacts have no place."""


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Raise `AwayError` or `RefusedError` where calls of MLflow's client fail.

    Args:
        uri: tracking URI, whose password never enters the message.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (AwayError, RefusedError):
        raise
    except Exception as error:  # a store of artifacts has errors that MLflow does not translate
        password = urlsplit(uri).password
        text = _first_line(error)
        if isinstance(error, MlflowException):
            is_away = error.error_code not in _REFUSALS
        else:
            is_away = isinstance(error, OSError) and not _is_final(error)
        kind = AwayError if is_away else RefusedError
        raise kind(text.replace(password, "***") if password else text) from error


@contextlib.contextmanager
def storage_answering() -> Iterator[None]:
    """Raise `AwayError` where the storage fails, which MLflow repeats."""
    try:
        yield
    except (AwayError, RefusedError):
        raise
    except Exception as error:  # each storage has its own
        log.warning("the storage fails while MLflow is written", exc_info=True)
        raise AwayError(f"the storage: {_first_line(error)}") from error


def _is_final(error: OSError) -> bool:
    """Whether a store of artifacts has answered, and would answer the next try alike."""
    answer = getattr(error, "response", None)  # of `requests`
    if answer is not None:
        return answer.status_code not in _BUSY
    return error.errno in _NO_PLACE


def _first_line(error: Exception) -> str:
    """The first line of an error, without secrets."""
    return without_secrets((str(error).strip().splitlines() or [type(error).__name__])[0])


class Client:
    """MLflow's client of a tracking URI.

    Args:
        uri: tracking URI.
        check_place: called before an upload with the place of the run's artifacts, which others
            can change where the database is a file; raises `RefusedError`.

    Attributes:
        mlflow: the client itself, for `call`.
        calls: name of a method -> how often it was called; of artifacts, a call per file.

    Raises:
        AwayError: the server does not answer.
    """

    def __init__(self, uri: str, check_place: CheckPlace | None = None) -> None:
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
        self._uri, self._check_place = uri, check_place
        self.calls: Counter[str] = Counter()
        with answering(uri):
            self.mlflow = MlflowClient(uri)

    def call(
        self,
        method: Callable[Arguments, Answer],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Answer:
        """Call a method of `mlflow`, and count it.

        Raises:
            AwayError: the server does not answer.
            RefusedError: it refuses the call.
        """
        self.calls[getattr(method, "__name__", "call")] += 1
        with answering(self._uri):
            return method(*arguments, **options)

    def upload(self, run_id: str, path: Path, to: str | None = None) -> None:
        """Add a file, or all files below a directory, to the artifacts of a run.

        Args:
            to: directory among the artifacts; None for the root.

        Raises:
            AwayError: the server, or the store of artifacts, does not answer.
            RefusedError: it refuses a file, or the run's artifacts have no place here.
        """
        if self._check_place is not None:
            with answering(self._uri):
                self._check_place(str(self.mlflow.get_run(run_id).info.artifact_uri))
        if path.is_file():
            self.call(self.mlflow.log_artifact, run_id, str(path), to)
            return
        self.call(self.mlflow.log_artifacts, run_id, str(path), to)
        files = sum(file.is_file() for file in path.rglob("*"))
        self.calls["log_artifacts"] += max(0, files - 1)

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run was deleted, or is gone."""
        try:
            run = self.call(self.mlflow.get_run, run_id)
        except RefusedError:
            return True
        return str(run.info.lifecycle_stage) == "deleted"

    def experiment_id(self, name: str, artifacts: str | None) -> str:
        """The id of an experiment, which is made if there is none.

        Args:
            artifacts: where a new experiment's artifacts go; None lets the server decide.
        """
        experiment = self.call(self.mlflow.get_experiment_by_name, name)
        if experiment is None:
            # The UI then opens on runs and their metrics, not on traces of a chat.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return str(self.call(self.mlflow.create_experiment, name, artifacts, kind))
            except RefusedError:  # another sweep made it a moment ago
                experiment = self.call(self.mlflow.get_experiment_by_name, name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            self.call(self.mlflow.restore_experiment, experiment.experiment_id)
        return str(experiment.experiment_id)


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
    """What opens the MLflow UI on a tracking URI, in a shell like that of this process."""
    if uri.startswith(("http://", "https://")):
        return f"open {uri}"
    beside = str(Path(sys.executable).with_name("mlflow"))
    program = "mlflow" if shutil.which("mlflow") == beside else beside
    return shlex.join([program, "ui", "--backend-store-uri", uri])


def page_address(uri: str, page: str) -> str:
    """Address of a page of the MLflow UI, which `open_command` starts where it is on no server.

    Args:
        page: `Tracker.page`.
    """
    server = uri.rstrip("/") if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{server}/{page}"
