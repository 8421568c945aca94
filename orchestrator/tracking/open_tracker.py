"""What logs a sweep: a tracking server, or a database that belongs to the storage."""

from __future__ import annotations

from pathlib import Path

from orchestrator.storage.store import Store
from orchestrator.tracking.mlflow_client import DATABASE, storage_answering
from orchestrator.tracking.mlflow_copy import MlflowCopy
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.sweep_identity import SweepIdentity, sweep_id

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
        RefusedError: the server refuses to make the experiment or the sweep's run.
    """
    with storage_answering():
        identity = SweepIdentity(name, sweep_id(store, name), experiment, owner)
    if uri is None and store.remote:
        copy = _fetched(store, name)
        return Tracker(copy.uri, copy.artifacts, identity, copy)
    uri = uri or default_uri(store, name)
    in_storage = uri.startswith("sqlite:") and not store.remote
    artifacts = (Path(store.root) / "mlruns").as_uri() if in_storage else None
    return Tracker(uri, artifacts, identity)


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
