"""What logs a sweep: a tracking server, or a database that belongs to the storage."""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store
from orchestrator.tracking.mlflow_client import (
    DATABASE,
    AwayError,
    RefusedError,
    storage_answering,
)
from orchestrator.tracking.mlflow_copy import BESIDE_DATABASE, MlflowCopy, is_local, relocate
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.sweep_identity import SweepIdentity, sweep_id
from search_spaces.settings.secrets import printable

_ARTIFACTS: Final = "mlruns"
_RUN: Final = re.compile(r"[0-9a-f]{32}/artifacts")
_copies: dict[Path, MlflowCopy] = {}
"""Those that this process has fetched: MLflow keeps their databases open."""


def open_tracker(store: Store, uri: str | None, name: str, experiment: str, owner: str) -> Tracker:
    """What logs a sweep.

    Args:
        store: holds the sweep's id, and the database and the artifacts where `uri` is None.
        uri: tracking URI.
        name: the sweep's.
        experiment: name of MLflow's experiment.
        owner: name of the user that makes runs.

    Raises:
        AwayError: the server does not answer, or the storage.
        RefusedError: the server refuses to make the experiment or the sweep's run, or a link is
            where the storage has the database.
    """
    with storage_answering():
        identity = SweepIdentity(name, sweep_id(store, name), experiment, owner)
    if uri is None and store.remote:
        copy = _fetched(store, name)
        check = partial(_check_place, store, copy.artifacts, copy.directory / DATABASE)
        return Tracker(copy.uri, copy.artifacts, identity, copy, check)
    if uri is not None and (store.remote or not uri.startswith("sqlite:")):
        return Tracker(uri, None, identity)
    artifacts, database = (Path(store.root) / _ARTIFACTS).as_uri(), None
    if uri is None or uri == default_uri(store, name):
        uri, database = default_uri(store, name), Path(store.root) / DATABASE
        _refuse_links(store, database)
        _relocate(database, artifacts)
    return Tracker(
        uri, artifacts, identity, check_place=partial(_check_place, store, artifacts, database)
    )


def _relocate(database: Path, artifacts: str) -> None:
    """Let the runs of a database that is there find their artifacts.

    Raises:
        AwayError: it cannot be written to.
        RefusedError: the file is no database.
    """
    with storage_answering():
        try:
            relocate(database, artifacts)
        except sqlite3.OperationalError as error:
            raise AwayError(f"{database}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise RefusedError(
                f"{database}: {error}; move it away, and the next run of each sweep logs all of it "
                "again"
            ) from error


def _refuse_links(store: Store, database: Path) -> None:
    """Make sure that no link is in the place of the database, or of a file that SQLite has by it.

    Raises:
        RefusedError: one is.
    """
    try:
        for suffix in ("", *BESIDE_DATABASE):
            store.refuse_links(f"{database}{suffix}")
    except StoreError as error:
        raise RefusedError(str(error)) from error


def _check_place(store: Store, artifacts: str, database: Path | None, place: str) -> None:
    """Make sure that a run's artifacts lead to no other files of whoever runs the sweep.

    Args:
        artifacts: URI of the directory where those of the sweep's runs belong.
        database: of the storage, where others may write, too; None for one of the user's own.
        place: URI of the run's artifacts.

    Raises:
        RefusedError: they are elsewhere, or a link is among them.
    """
    run = place.removeprefix(f"{artifacts}/")
    if _RUN.fullmatch(run) and run != place:
        try:
            store.refuse_links_in(_ARTIFACTS, PurePosixPath(run).parts[0])
        except StoreError as error:
            raise RefusedError(str(error)) from error
    elif database is not None and is_local(place):
        raise RefusedError(
            printable(
                f"a run has its artifacts in {place}, which is elsewhere than {artifacts}; delete "
                f"{database}, and the next run of each sweep logs all of it again"
            )
        )


def default_uri(store: Store, name: str) -> str:
    """SQLite in a local storage; of a remote one, in this machine's cache.

    Args:
        name: the sweep's.
    """
    if store.remote:
        return MlflowCopy(store, name).uri
    return f"sqlite:///{Path(store.root).resolve() / DATABASE}"


def _fetched(store: Store, name: str) -> MlflowCopy:
    copy = MlflowCopy(store, name)
    if copy.directory not in _copies:
        with storage_answering():
            copy.fetch()
        _copies[copy.directory] = copy
    return _copies[copy.directory]
