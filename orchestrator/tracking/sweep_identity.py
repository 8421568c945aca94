"""What tells a sweep's runs in MLflow from all others: a random id that its storage keeps."""

from __future__ import annotations

import contextlib
import getpass
import os
import uuid
from dataclasses import dataclass
from typing import Final

from orchestrator.storage.files import StoreError
from orchestrator.storage.outage import until_visible
from orchestrator.storage.store import Store

EXPERIMENT: Final = "bridgesweep"
"""The name of the experiment unless another one is given."""
ID_FILE: Final = "sweep_id"
"""In a sweep's directory: its id."""


@dataclass(frozen=True)
class SweepIdentity:
    """A sweep, as MLflow shall know it.

    Attributes:
        name: for people; sweeps of other storages may have the same.
        id: by which the sweep's runs are found.
        experiment: name of the experiment that has the runs.
        owner: name of the user that makes runs.
    """

    name: str
    id: str
    experiment: str
    owner: str


def sweep_id(store: Store, name: str) -> str:
    """The id of a sweep, written once to `<storage>/<name>/sweep_id`.

    It goes with the storage: a storage that was copied is, to MLflow, the same storage.

    Args:
        name: the sweep's.

    Raises:
        StoreError: the file is empty, or does not become visible.
    """
    path, new = f"{name}/{ID_FILE}", uuid.uuid4().hex
    content = store.read(path)
    if content is None and store.create(path, new.encode()):
        return new
    kept = (content or until_visible(lambda: store.read(path)) or b"").decode().strip()
    if not kept:
        raise StoreError(f"{store.path(path)} is empty; delete it, and the sweep gets new runs")
    return kept


def login_name() -> str:
    """The name of this process's user; its number where it has no name, as in some containers."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return f"uid {os.getuid()}"
