"""Which stages the sweeps of a storage refer to.

    <sweep>/stages.json    the stages of all operating points of its space, complete or not

A driver writes this record before it looks which stages are complete, then waits while another
process deletes (`wait_for_deletion`). Who deletes holds the lease `DELETION` before it reads the
records. So a driver finds a stage complete only if its deletion is over, or never begins.

A sweep that is not wanted any more is dropped by deleting its directory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pydantic import BaseModel

from orchestrator.storage.files import Files
from orchestrator.storage.lease_files import Pace, Standing, Watch

RESERVED: Final = (
    *("checksums", "leases", "locks", "logs", "mlflow", "mlflow.db", "mlruns"),
    *("requests", "revisions", "stages", "status", "tmp", "train", "work"),
)
"""What stands in a storage beside the directories of sweeps."""
RECORD: Final = "stages.json"
_SWEEP_FILES: Final = ("sweep_id", "sweep.json", "points.parquet", "search.json")
"""The directory of a sweep without a record has at least one of these."""
DELETION: Final = "deletion"
"""The lease of the process that deletes stages."""


class _Record(BaseModel, strict=True):
    stages: list[str]
    search: bool


@dataclass(frozen=True)
class References:
    """What the sweeps of a storage refer to.

    Attributes:
        stages: `stages/<kind>/<key>` of the sweeps that have a record.
        unrecorded: names of sweeps without one; they may refer to every stage. Other directories
            that people keep in the storage are no sweeps.
        searching: names of sweeps that run now and train trials of a search, which no record has.
    """

    stages: frozenset[str]
    unrecorded: tuple[str, ...]
    searching: tuple[str, ...]

    @property
    def covers_everything(self) -> bool:
        """Whether any stage may be referred to."""
        return bool(self.unrecorded or self.searching)


def sweep_names(store: Files) -> list[str]:
    """The sorted names of the directories in the storage that may be those of sweeps."""
    names = store.directories()
    return [name for name in names if name not in RESERVED and not name.startswith(".")]


def record_references(store: Files, sweep: str, stages: Iterable[str], searches: bool) -> None:
    """Record what a sweep refers to, in the place of what it referred to before.

    Args:
        stages: `stages/<kind>/<key>`.
        searches: whether it also trains trials of a search.
    """
    content = {"schema": 1, "search": searches, "stages": sorted(set(stages))}
    store.write(f"{sweep}/{RECORD}", json.dumps(content, indent=0).encode())


def wait_for_deletion(store: Files, pace: Pace | None = None) -> None:
    """Wait while another process deletes stages."""
    while is_held(store, DELETION, pace):
        time.sleep(1.0)


def is_held(store: Files, name: str, pace: Pace | None = None) -> bool:
    """Whether a living process holds a lease, as far as can be told from here."""
    watch = Watch(store, name, pace)
    while (standing := watch.look()) is Standing.UNKNOWN:
        time.sleep(watch.pace.look)
    return standing is Standing.ALIVE


def read_references(store: Files, pace: Pace | None = None) -> References:
    """What the sweeps of a storage refer to now."""
    names = sweep_names(store)
    records = store.read_all(f"{name}/{RECORD}" for name in names)
    stages: set[str] = set()
    recorded, unrecorded, searching = set[str](), list[str](), list[str]()
    for name, text in zip(names, records, strict=True):
        try:
            record = _Record.model_validate_json(text or b"")
        except ValueError:
            if text is not None or _is_sweep(store, name):
                unrecorded.append(name)
            continue
        stages |= {str(PurePosixPath(stage)) for stage in record.stages}
        recorded.add(name)
        # Its trials are in no record, and one that was stopped goes on with them.
        is_over = store.is_file(f"{name}/search.json")
        if record.search and (not is_over or is_held(store, f"sweep-{name}", pace)):
            searching.append(name)
    # A driver without a record may have started just now.
    prefix = "sweep-"
    leases = [name for name in store.names("leases") if name.startswith(prefix)]
    started = {name.removeprefix(prefix) for name in leases} - recorded - {*unrecorded}
    unrecorded += [name for name in sorted(started) if is_held(store, prefix + name, pace)]
    return References(frozenset(stages), tuple(unrecorded), tuple(searching))


def _is_sweep(store: Files, name: str) -> bool:
    return any(store.is_file(f"{name}/{file}") for file in _SWEEP_FILES)
