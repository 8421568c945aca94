"""Content-addressed outputs of stages, on a local directory or any fsspec storage.

    local:   tmp/<key>.<process>.<n>/  --fsync, rename-->  stages/<kind>/<key>/manifest.json, ...
    remote:  stages/<kind>/<key>/<upload>/...  then  stages/<kind>/<key>/manifest.json

A stage with a manifest is complete and never changes; without a manifest it does not exist. Of two
writers of one stage the first wins and the second's copy is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.storage.file_lock import locked
from orchestrator.storage.files import Files, StoreError, inside, write_synced
from orchestrator.storage.lease import Lease, hold, hold_all
from orchestrator.storage.process import Process

MANIFEST = "manifest.json"
JsonObject = dict[str, Any]
"""An object of JSON data."""
Manifest = JsonObject
"""JSON: `stage`, `created` (seconds since 1970), `host`, `files` (path -> `bytes`, `sha256`), and
the data that `Store.commit` was given."""
FOREIGN_LEFTOVER_S = 24 * 3600.0
"""Age of what another machine was writing, after which it is deleted."""
_TEMPORARY = re.compile(
    r".+\.(?P<boot>[0-9a-f]{12})\.(?P<pid>\d+)\.(?P<started_ms>\d+)\.[0-9a-f]{8}", re.DOTALL
)


class Store(Files):
    """The storage of sweeps: finished stages, and working directories.

    Args:
        uri, cache, remote: as of `Files`.
    """

    # Stages

    def has(self, stage: str) -> bool:
        """Whether a stage (`stages/<kind>/<key>`) is complete."""
        return self.exists(f"{stage}/{MANIFEST}")

    def manifest(self, stage: str) -> Manifest:
        """The manifest of a complete stage.

        Raises:
            StoreError: the stage is not complete.
        """
        text = self.read(f"{stage}/{MANIFEST}")
        if text is None:
            raise StoreError(f"{stage} is not in {self.uri}")
        try:
            manifest: Manifest = json.loads(text)
        except ValueError as error:
            raise StoreError(
                f"the {MANIFEST} of {stage} in {self.uri} is damaged: {error}"
            ) from None
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
        write_synced(directory / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
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
        self.upload(directory, self.path(stage, upload))
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
                    upload = inside(Path(stage), manifest["upload"])
                    self.download(self.path(str(upload)), fresh)
                    write_synced(fresh / MANIFEST, json.dumps(manifest))
                    directory.parent.mkdir(parents=True, exist_ok=True)
                    fresh.rename(directory)
        for name, file in manifest["files"].items():
            path = inside(directory, name)
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise StoreError(
                    f"{path} is missing or damaged; delete {directory} to make it again"
                )
        return directory

    # Working directories

    @contextlib.contextmanager
    def work(self, key: str) -> Iterator[tuple[Path, Lease]]:
        """The working directory of a job, which survives kills, for one process at a time.

        A second process waits until the first is done or dead: an orphan of a killed driver can
        live on for some seconds, and must not write beside its successor.

        Args:
            key: of the job.

        Yields:
            The directory, and the lease to `check` before what others may do by now.
        """
        directory = self._local / "work" / key
        with hold(self, f"job-{key}") as lease:
            directory.mkdir(parents=True, exist_ok=True)
            yield directory, lease

    @contextlib.contextmanager
    def work_of(self, keys: Iterable[str]) -> Iterator[dict[str, Path]]:
        """The working directories of several jobs, as `work` gives one; by key."""
        directories = {key: self._local / "work" / key for key in keys}
        with hold_all(self, [f"job-{key}" for key in directories]):
            for directory in directories.values():
                directory.mkdir(parents=True, exist_ok=True)
            yield directories

    @contextlib.contextmanager
    def evaluation_work(self, key: str, evaluation: str) -> Iterator[tuple[Path, Lease]]:
        """The working directory of an evaluation, for one process at a time.

        It lies in the working directory of the point's job, and `remove_work` deletes both.

        Args:
            key: of the job.
            evaluation: key of the evaluation's stage.
        """
        with hold(self, f"evaluation-{evaluation}") as lease:
            yield self._local / "work" / key / f"evaluation-{evaluation}", lease

    def remove_work(self, key: str) -> None:
        """Delete the working directory of a job, and the checkpoints of its Ray Train run."""
        shutil.rmtree(self._local / "work" / key, ignore_errors=True)
        for name in (f"work/{key}", f"train/{key}"):
            if self.exists(name):
                self.fs.rm(self.path(name), recursive=True)

    def save_work(self, key: str, directory: Path, name: str) -> None:
        """Copy a part of a working directory to the remote storage, for other nodes.

        Args:
            key: of the job.
            directory: is copied.
            name: of the part; a later copy of that name replaces it.
        """
        assert self.remote
        upload = uuid.uuid4().hex
        self.upload(directory, self.path("work", key, name, upload))
        self.write(f"work/{key}/{name}/LATEST", upload.encode())
        for old in self.fs.ls(self.path("work", key, name), detail=False):
            if PurePosixPath(old).name not in ("LATEST", upload):
                self.fs.rm(old, recursive=True)

    def load_work(self, key: str, name: str, directory: Path) -> bool:
        """Copy what `save_work` kept to a local directory; False if it kept nothing."""
        assert self.remote
        latest = self.read(f"work/{key}/{name}/LATEST")
        if latest is None:
            return False
        upload = inside(Path("work", key, name), latest.decode())
        fresh = self.new(key)
        self.download(self.path(str(upload)), fresh)
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(directory)
        return True

    def remove_leftovers(self) -> None:
        """Delete what dead processes left in `tmp`.

        Of processes that cannot be seen from here, such as those of a lost machine, what is a day
        old.
        """
        for directory in (self._local / "tmp").glob("*"):
            if (match := _TEMPORARY.fullmatch(directory.name)) is None:
                continue  # not made here, such as `.DS_Store` or `.nfs...`
            owner = Process("", match["boot"], int(match["pid"]), int(match["started_ms"]))
            with contextlib.suppress(FileNotFoundError):  # its owner has just finished with it
                age = time.time() - directory.stat().st_mtime
                if owner.is_gone or (age > FOREIGN_LEFTOVER_S and not owner.is_here):
                    shutil.rmtree(directory, ignore_errors=True)


def _checksums(directory: Path) -> dict[str, dict[str, int | str]]:
    checksums: dict[str, dict[str, int | str]] = {}
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.relative_to(directory).as_posix()
        checksums[name] = {"bytes": file.stat().st_size, "sha256": digest}
    return checksums
