"""The MLflow database and artifacts of a sweep whose storage is remote.

    storage mlflow/<sweep>/ --fetch, once in a process--> this machine's cache, where MLflow works
    cache --save, every minute and at the end--> storage mlflow/<sweep>/

So a driver on another machine continues the runs, and a job's deleted working directory costs
none. Each sweep has a database, as one driver at a time runs a sweep.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchestrator.storage.files import inside
from orchestrator.storage.store import Store
from orchestrator.tracking.mlflow_client import DATABASE

SAVE_EVERY_S: Final = 60.0
BESIDE_DATABASE: Final = ("-journal", "-wal", "-shm")
_ARTIFACT_COLUMNS: Final = (("experiments", "artifact_location"), ("runs", "artifact_uri"))
"""Of the database: where artifacts are."""
_Version = tuple[int, int]
"""Of a file: nanoseconds since 1970 when it was written, and bytes."""
log = logging.getLogger(__name__)


class MlflowCopy:
    """The database and the artifacts of a sweep in this machine's cache.

    Args:
        store: remote.
        name: the sweep's.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._prefix = store, f"mlflow/{name}"
        self.directory = store.local("mlflow", name).absolute()
        self._saved: dict[str, _Version] = {}
        """Path below the directory -> the version that the storage has."""
        self._saved_at = time.monotonic()

    @property
    def uri(self) -> str:
        """Tracking URI."""
        return f"sqlite:///{self.directory / DATABASE}"

    @property
    def artifacts(self) -> str:
        """URI of the artifacts."""
        return (self.directory / "mlruns").as_uri()

    def fetch(self) -> None:
        """Copy what the storage has and this machine lacks; the storage's database counts."""
        self.directory.mkdir(parents=True, exist_ok=True)
        missing: dict[str, Path] = {}
        for path, written in self._store.below(self._prefix).items():
            name = path.removeprefix(f"{self._prefix}/")
            target = inside(self.directory, name)
            if name == DATABASE or not target.exists():
                missing[path] = target
            elif written is not None and target.stat().st_mtime <= written:
                self._saved[name] = _version(target)
        self._fetch_files(missing)
        relocate(self.directory / DATABASE, self.artifacts)

    def _fetch_files(self, targets: Mapping[str, Path]) -> None:
        """Copy files, by path below the storage, side by side where the file system can."""
        temporaries = {
            path: target.with_name(f"{target.name}.tmp") for path, target in targets.items()
        }
        for temporary in temporaries.values():
            temporary.parent.mkdir(parents=True, exist_ok=True)
        self._store.fs.get(
            [self._store.path(path) for path in temporaries], [*map(str, temporaries.values())]
        )
        for path, target in targets.items():
            if target.name == DATABASE:
                for suffix in BESIDE_DATABASE:  # of a killed driver, about the database before
                    target.with_name(f"{DATABASE}{suffix}").unlink(missing_ok=True)
            temporaries[path].replace(target)
            self._saved[path.removeprefix(f"{self._prefix}/")] = _version(target)

    def save_if_due(self) -> None:
        """Save once in `SAVE_EVERY_S`, unless the storage is away."""
        if time.monotonic() - self._saved_at < SAVE_EVERY_S:
            return
        self._saved_at = time.monotonic()
        try:
            self.save()
        except Exception as error:  # each storage has its own; the next save may get through
            log.info("the MLflow database was not copied to the storage: %s", error)

    def save(self) -> None:
        """Copy what has changed to the storage: the database last, which names the artifacts."""
        files = (file for file in sorted(self.directory.rglob("*")) if file.is_file())
        for file in files:
            name = file.relative_to(self.directory).as_posix()
            if file.suffix != ".tmp" and not name.startswith(DATABASE):
                self._save_file(name, file)
        database = self.directory / DATABASE
        if not database.exists() or self._saved.get(DATABASE) == _version(database):
            return
        version = _version(database)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / DATABASE
            with (
                contextlib.closing(sqlite3.connect(database)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            self._store.put_file(copy, f"{self._prefix}/{DATABASE}")
        self._saved[DATABASE] = version

    def _save_file(self, name: str, file: Path) -> None:
        version = _version(file)
        if self._saved.get(name) != version:
            self._store.put_file(file, f"{self._prefix}/{name}")
            self._saved[name] = version


def relocate(database: Path, artifacts: str) -> None:
    """Let the runs find their artifacts here, wherever the storage, or a driver's cache, was.

    Args:
        database: SQLite's file, if there is one.
        artifacts: URI of their directory.
    """
    if not database.exists():
        return
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        # Of all experiments that sweeps made here; that of MLflow itself lies elsewhere.
        select = "SELECT DISTINCT artifact_location FROM experiments WHERE experiment_id != 0"
        for (place,) in connection.execute(select).fetchall():
            if place == artifacts or not is_local(str(place)):
                continue
            for table, column in _ARTIFACT_COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (artifacts, len(place) + 1, len(place), place),
                )


def is_local(place: str) -> bool:
    """Whether artifacts are on this machine's disks."""
    return urlsplit(place).scheme in ("", "file")


def _version(file: Path) -> _Version:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size
