"""Content-addressed outputs of stages, on a local directory or any fsspec storage.

    local:   tmp/<key>.<host>.<pid>.<n>/  --fsync, rename-->  stages/<kind>/<key>/manifest.json, ...
    remote:  stages/<kind>/<key>/<upload>/...  then  stages/<kind>/<key>/manifest.json

A stage with a manifest is complete and never changes; without a manifest it does not exist. Of two
writers of one stage the first wins and the second's copy is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from orchestrator.storage.file_lock import locked
from orchestrator.storage.lease import Process, hold

MANIFEST = "manifest.json"
JsonObject = dict[str, Any]
"""An object of JSON data."""
Manifest = JsonObject
"""JSON: `stage`, `created` (seconds since 1970), `host`, `files` (path -> `bytes`, `sha256`), and
the data that `Store.commit` was given."""
FOREIGN_LEFTOVER_S = 24 * 3600.0
"""Age of what another machine was writing, after which it is deleted."""
_numbers = itertools.count()


class StoreError(RuntimeError):
    """A stage is not in the storage, or its files are missing or damaged."""


class Store:
    """The storage of sweeps.

    Args:
        uri: a directory or fsspec URI.
        cache: where remote stages are fetched to; by default a directory of this user's cache.
        remote: treat the storage as remote although it is a local directory (for tests).
    """

    def __init__(self, uri: str, cache: Path | None = None, remote: bool | None = None) -> None:
        # Other machines write, too: what is there is asked for each time.
        self.fs, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        local = "file" in _protocols(self.fs)
        self.remote = (not local) if remote is None else remote
        self.root = str(Path(root).resolve()) if local else root.rstrip("/")
        self.uri = self.root if local else uri.rstrip("/")
        if self.remote and cache is None:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:12]
            base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
            cache = base / "bridgesweep" / name
        self._local = cache if self.remote and cache is not None else Path(self.root)

    def path(self, *names: str) -> str:
        """A path below the storage, as the file system writes it."""
        return "/".join([self.root, *names])

    def local(self, *names: str) -> Path:
        """A path on this machine: in the storage where that is local, else in the cache."""
        return self._local.joinpath(*names)

    # Stages

    def has(self, stage: str) -> bool:
        """Whether a stage (`stages/<kind>/<key>`) is complete."""
        return bool(self.fs.exists(self.path(stage, MANIFEST)))

    def manifest(self, stage: str) -> Manifest:
        """The manifest of a complete stage.

        Raises:
            StoreError: the stage is not complete.
        """
        try:
            text = self.fs.cat_file(self.path(stage, MANIFEST))
        except FileNotFoundError:
            raise StoreError(f"{stage} is not in {self.uri}") from None
        manifest: Manifest = json.loads(text)
        return manifest

    def new(self, stage: str) -> Path:
        """An empty local directory to write a stage's output to, for `commit`."""
        owner = Process.current()
        name = f"{PurePosixPath(stage).name}.{owner.boot}.{owner.pid}.{owner.started_ms}"
        directory = self._local / "tmp" / f"{name}.{uuid.uuid4().hex[:8]}"
        directory.mkdir(parents=True)
        return directory

    def commit(self, stage: str, directory: Path, about: Mapping[str, object]) -> bool:
        """Move a directory to the storage, in one step, as the output of a stage; it never changes.

        Args:
            stage: `stages/<kind>/<key>`.
            directory: complete; on the storage's own file system where that is local.
            about: JSON data to keep in the manifest.

        Returns:
            False if another writer was first; then its output is kept and this one is dropped.
        """
        manifest = {
            **about,
            "stage": stage,
            "created": time.time(),
            "host": socket.gethostname(),
            "files": _checksums(directory),
        }
        if self.remote:
            return self._commit_remote(stage, directory, manifest)
        _write_synced(directory / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        target = Path(self.path(stage))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.rename(target)
        except OSError:
            # Renaming onto a directory that is not empty fails: another writer was first.
            if not self.has(stage):
                raise
            shutil.rmtree(directory)
            return False
        return True

    def _commit_remote(self, stage: str, directory: Path, manifest: Mapping[str, object]) -> bool:
        if self.has(stage):
            shutil.rmtree(directory)
            return False
        upload = uuid.uuid4().hex
        # Each writer has a place of its own, so a manifest always names one writer's files.
        self._upload(directory, self.path(stage, upload))
        content = json.dumps({**manifest, "upload": upload}).encode()
        is_first = self.create(f"{stage}/{MANIFEST}", content)
        if not is_first:
            self.fs.rm(self.path(stage, upload), recursive=True)
        shutil.rmtree(directory)
        return is_first

    def fetch(self, stage: str) -> Path:
        """A complete stage as a local directory (downloaded once where the storage is remote).

        Raises:
            StoreError: it is not complete, or files are missing or have the wrong size.
        """
        manifest = self.manifest(stage)
        if not self.remote:
            directory = Path(self.path(stage))
        else:
            directory = self._local / stage
            # Not the lock of `work`, which a job may hold on the very stage that it reads next.
            with locked(self._local / "locks" / f"fetch-{PurePosixPath(stage).name}"):
                if not (directory / MANIFEST).exists():
                    fresh = self.new(stage)
                    self._download(self.path(stage, manifest["upload"]), fresh)
                    _write_synced(fresh / MANIFEST, json.dumps(manifest))
                    directory.parent.mkdir(parents=True, exist_ok=True)
                    fresh.rename(directory)
        for name, file in manifest["files"].items():
            path = directory / name
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise StoreError(
                    f"{path} is missing or damaged; delete {directory} to make it again"
                )
        return directory

    # Working directories

    @contextlib.contextmanager
    def work(self, key: str) -> Iterator[Path]:
        """The working directory of a job, which survives kills, for one process at a time.

        A second process waits until the first is done or dead: an orphan of a killed driver can
        live on for some seconds, and must not write beside its successor.

        Args:
            key: of the job.
        """
        directory = self._local / "work" / key
        with hold(self, f"job-{key}"):
            directory.mkdir(parents=True, exist_ok=True)
            yield directory

    @contextlib.contextmanager
    def evaluation_work(self, key: str, evaluation: str) -> Iterator[Path]:
        """The working directory of an evaluation, for one process at a time.

        It lies in the working directory of the point's job, and `remove_work` deletes both.

        Args:
            key: of the job.
            evaluation: key of the evaluation's stage.
        """
        with hold(self, f"evaluation-{evaluation}"):
            yield self._local / "work" / key / f"evaluation-{evaluation}"

    def remove_work(self, key: str) -> None:
        """Delete the working directory of `key`."""
        shutil.rmtree(self._local / "work" / key, ignore_errors=True)
        if self.remote and self.fs.exists(self.path("work", key)):
            self.fs.rm(self.path("work", key), recursive=True)

    def save_work(self, key: str, directory: Path, name: str) -> None:
        """Copy a part of a working directory to the remote storage, for other nodes.

        Args:
            key: of the job.
            directory: is copied.
            name: of the part; a later copy of that name replaces it.
        """
        assert self.remote
        upload = uuid.uuid4().hex
        self._upload(directory, self.path("work", key, name, upload))
        self.write(f"work/{key}/{name}/LATEST", upload.encode())
        for old in self.fs.ls(self.path("work", key, name), detail=False):
            if PurePosixPath(old).name not in ("LATEST", upload):
                self.fs.rm(old, recursive=True)

    def load_work(self, key: str, name: str, directory: Path) -> bool:
        """Copy what `save_work` kept to a local directory; False if it kept nothing."""
        assert self.remote
        latest = self.path("work", key, name, "LATEST")
        if not self.fs.exists(latest):
            return False
        upload = self.fs.cat_file(latest).decode()
        fresh = self.new(key)
        self._download(self.path("work", key, name, upload), fresh)
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(directory)
        return True

    # Plain files

    def write(self, name: str, data: bytes) -> str:
        """Write a file whole; returns its path."""
        path = self.path(name)
        self.fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if "file" in _protocols(self.fs):
            temporary = f"{path}.{os.getpid()}.{next(_numbers)}.tmp"
            _write_synced(Path(temporary), data)
            Path(temporary).replace(path)
        else:  # object stores show a file only when it is complete
            self.fs.pipe_file(path, data)
        return path

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that does not exist yet, whole; of several writers, one wins.

        Uses a hard link on disks, also shared ones, and the conditional write of object stores.

        Returns:
            False if the file exists.
        """
        path = self.path(name)
        self.fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if "file" not in _protocols(self.fs):
            try:
                self.fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True
        temporary = Path(f"{path}.{uuid.uuid4().hex}.tmp")
        _write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        return bool(self.fs.exists(self.path(name)))

    def names(self, directory: str) -> list[str]:
        """The sorted names of the complete files in a directory; empty where there is none."""
        try:
            files = self.fs.ls(self.path(directory), detail=False)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(file).name for file in files)
        return sorted(name for name in names if not name.endswith(".tmp"))

    def read(self, name: str) -> bytes | None:
        """A file's content; None if the file does not exist."""
        try:
            return bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def put_file(self, source: Path, name: str) -> None:
        """Copy a local file to the storage."""
        self.write(name, source.read_bytes())

    def remove_leftovers(self) -> None:
        """Delete what dead processes left in `tmp`.

        Of processes that cannot be seen from here, such as those of a lost machine, what is a day
        old.
        """
        for directory in (self._local / "tmp").glob("*"):
            boot, pid, started_ms, _ = directory.name.rsplit(".", 4)[1:]
            owner = Process("", boot, int(pid), int(started_ms))
            with contextlib.suppress(FileNotFoundError):  # its owner has just finished with it
                age = time.time() - directory.stat().st_mtime
                if owner.is_gone or (age > FOREIGN_LEFTOVER_S and not owner.is_here):
                    shutil.rmtree(directory, ignore_errors=True)

    def _upload(self, directory: Path, target: str) -> None:
        for file in sorted(p for p in directory.rglob("*") if p.is_file()):
            path = f"{target}/{file.relative_to(directory).as_posix()}"
            self.fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            self.fs.put_file(str(file), path)

    def _download(self, source: str, directory: Path) -> None:
        for path in self.fs.find(source):
            target = directory / PurePosixPath(path).relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(path, str(target))


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _checksums(directory: Path) -> dict[str, dict[str, int | str]]:
    checksums: dict[str, dict[str, int | str]] = {}
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.relative_to(directory).as_posix()
        checksums[name] = {"bytes": file.stat().st_size, "sha256": digest}
    return checksums


def _write_synced(path: Path, content: str | bytes) -> None:
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
