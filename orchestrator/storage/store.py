"""Content-addressed outputs of stages, on a local directory or any fsspec storage.

    local:   tmp/<key>.<process>.<n>/  --fsync, rename-->  stages/<kind>/<key>/manifest.json, ...
    remote:  stages/<kind>/<key>/<upload>/...  then  stages/<kind>/<key>/manifest.json
    parts:   written by any machine to work/<key>/parts/<writer>/ (local) or
             stages/<kind>/<key>/<writer>/ (remote), hashed there; the commit adds the manifest

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
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic_core import from_json

from orchestrator.storage.cache import StageCache, VerifiedFiles, checksum
from orchestrator.storage.disk import locked, regular_status
from orchestrator.storage.files import StoreError, inside, line_of_shape, write_synced
from orchestrator.storage.outage import until_visible
from orchestrator.storage.work import WorkFiles

DEFAULT_STORAGE = "./bridgesweep-results"
MANIFEST = "manifest.json"
JsonObject = dict[str, Any]
"""An object of JSON data."""
Manifest = JsonObject
"""JSON: `stage`, `created` (seconds since 1970), `host`, `files` (path -> `bytes`, `sha256`, and
in a remote storage `at`, the path below the stage), and the data that `Store.commit` was given."""
FileEntry = dict[str, int | str]
"""Of a file in a manifest."""


class _FileShape(BaseModel, strict=True):
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    at: str | None = None


class _ManifestShape(BaseModel, strict=True):
    """What every manifest has, and of what type the rest is where a manifest has it."""

    stage: str
    created: Annotated[float, Field(allow_inf_nan=False)]
    files: dict[str, _FileShape]
    spec: JsonObject = {}
    inputs: list[str] = []
    code: JsonObject = {}
    hardware: JsonObject = {}
    seconds: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    subject: JsonObject | None = None
    version: int | None = None
    cost: Annotated[float, Field(allow_inf_nan=False)] | None = None


_MANIFESTS_AT_ONCE = 200
"""Some list thousands of files each, so that the memory of all would not do."""
_FETCHES = 4
"""Stages that are downloaded at a time, each with its files side by side."""
PARTS = "parts"
"""Directory of a stage's parts in work/<key>/."""


class PartsMissingError(StoreError):
    """Parts of a stage are not where they were written.

    Args:
        names: their paths below the stage.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"{len(names)} written files are gone, {names[0]} among them")
        self.names = frozenset(names)


class Store(WorkFiles):
    """The storage of sweeps: finished stages, and working directories.

    Args:
        uri, cache, remote: as of `Files`.
    """

    def __init__(self, uri: str, cache: Path | None = None, remote: bool | None = None) -> None:
        super().__init__(uri, cache, remote)
        self._arguments = uri, cache, remote
        self._cache = StageCache(self._local, self._caches)
        self._verified = VerifiedFiles(self._cache_directory)
        weakref.finalize(self, self._cache.release)

    def __reduce__(self) -> tuple[type[Store], tuple[str, Path | None, bool | None]]:
        """Where it is unpickled, the storage is opened anew."""
        return type(self), self._arguments

    def has(self, stage: str) -> bool:
        """Whether a stage (`stages/<kind>/<key>`) is complete."""
        return self.is_file(f"{stage}/{MANIFEST}")

    def complete_stages(self, kind: str) -> frozenset[str]:
        """The complete stages of a kind, found by one listing: `stages/<kind>/<key>` each."""
        if not self.remote:
            return frozenset(self._complete_on_disk(f"stages/{kind}"))
        files = self.below(f"stages/{kind}")
        paths = (PurePosixPath(file) for file in files)
        return frozenset(
            str(path.parent) for path in paths if path.name == MANIFEST and len(path.parts) == 4
        )

    def _complete_on_disk(self, directory: str) -> Iterator[str]:
        """On a disk, what stages consist of would be as many listings more."""
        self.refuse_links(self.path(directory))
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path(directory)) as stages:
            for stage in stages:
                if stage.is_dir(follow_symlinks=False):
                    manifest = regular_status(Path(stage.path, MANIFEST))
                    if manifest is not None and manifest.st_size:
                        yield f"{directory}/{stage.name}"

    def manifest(self, stage: str) -> Manifest:
        """The manifest of a complete stage, which a shared disk may show late.

        Raises:
            StoreError: the stage is not complete.
        """
        return self._parsed(stage, until_visible(lambda: self.read(f"{stage}/{MANIFEST}")))

    def manifests(self, stages: Iterable[str]) -> Iterator[Manifest]:
        """The manifests of complete stages, read side by side where the file system can.

        Raises:
            StoreError: a stage is not complete.
        """
        remaining = iter(stages)
        while batch := list(islice(remaining, _MANIFESTS_AT_ONCE)):
            texts = self.read_all(f"{stage}/{MANIFEST}" for stage in batch)
            for stage, text in zip(batch, texts, strict=True):
                yield self.manifest(stage) if text is None else self._parsed(stage, text)

    def _parsed(self, stage: str, text: bytes | None) -> Manifest:
        if text is None:
            raise StoreError(f"{stage} is not in {self.uri}")
        try:
            return parse_manifest(stage, text)
        except ValueError as error:
            raise StoreError(
                f"the {MANIFEST} of {stage} in {self.uri} is damaged ({line_of_shape(error)}); "
                f"delete {self.uri}/{stage} to make it again"
            ) from None

    def stage_file(self, manifest: Manifest, name: str) -> bytes:
        """The content of a file of a complete stage, of which nothing else is read.

        Args:
            manifest: the stage's.
            name: of the file, small enough for the memory.

        Raises:
            StoreError: the manifest has no such file, or that is missing or damaged.
        """
        stage, file = manifest["stage"], manifest["files"].get(name)
        if file is None:
            raise self._damage(stage, name)
        content = self.read(str(inside(Path(stage), file.get("at", name))))
        if content is None or hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise self._damage(stage, name)
        return content

    def commit(self, stage: str, directory: Path, about: Mapping[str, object]) -> bool:
        """Move a directory to the storage, in one step, as the output of a stage; it never changes.

        Args:
            stage: `stages/<kind>/<key>`.
            directory: complete; on the storage's own file system where that is local.
            about: JSON data to keep in the manifest.

        Returns:
            False if another writer was first; then its output is kept and this one is dropped.

        Raises:
            StoreError: the directory has no file, or a link is on the way to the stage.
        """
        manifest = self._manifest_of(stage, about)
        manifest["files"] = _checksums(directory)
        if not manifest["files"]:  # somebody emptied the directory
            raise StoreError(f"{stage} is not committed: {directory} has no file by now")
        if self.remote:
            return self._commit_remote(stage, directory, manifest)
        return self._commit_local(stage, directory, manifest)

    def remove_stage(self, stage: str, files: Iterable[str]) -> None:
        """Delete a stage so that nobody ever sees a part of it as complete.

        Call it while the lease of its job is held.

        Args:
            stage: `stages/<kind>/<key>`.
            files: its paths below the storage; of a remote storage no others are deleted.
        """
        if self.remote:
            manifest = f"{stage}/{MANIFEST}"
            self.remove([manifest])
            self.remove(file for file in files if file != manifest)
            return
        self.refuse_links(str(Path(self.path(stage)).parent))
        doomed = self.new(stage)
        with contextlib.suppress(FileNotFoundError):  # another process deletes it
            Path(self.path(stage)).rename(doomed / "stage")
        shutil.rmtree(doomed)

    def _manifest_of(self, stage: str, about: Mapping[str, object]) -> Manifest:
        return {**about, "stage": stage, "created": time.time(), "host": socket.gethostname()}

    def _commit_local(self, stage: str, directory: Path, manifest: Manifest) -> bool:
        write_synced(directory / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        target = Path(self.path(stage))
        self.refuse_links(str(target.parent))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.rename(target)
        except OSError:
            # Renaming onto a directory that is not empty fails: another writer was first.
            if not os.path.lexists(target):
                raise
            if until_visible(lambda: self.has(stage)):
                shutil.rmtree(directory)
                return False
            self.remove_stage(stage, ())  # without a manifest it is no stage
            directory.rename(target)
        return True

    def _commit_remote(self, stage: str, directory: Path, manifest: Manifest) -> bool:
        if self.has(stage):
            shutil.rmtree(directory)
            return False
        upload = uuid.uuid4().hex
        # Each writer has a place of its own, so a manifest always names one writer's files.
        self.upload(directory, self.path(stage, upload))
        for name in sorted(_names(directory)):
            manifest["files"][name]["at"] = f"{upload}/{name}"
        is_first = self.create(f"{stage}/{MANIFEST}", json.dumps(manifest).encode())
        if not is_first:
            self.remove_tree(f"{stage}/{upload}")
        shutil.rmtree(directory)
        return is_first

    # Stages that many machines write, a part each

    @contextlib.contextmanager
    def part(self, stage: str, key: str, name: str) -> Iterator[tuple[Path, FileEntry]]:
        """Write a file of a stage that is not complete yet, from any machine.

        Each call has a place of its own, so a lost writer that is still alive changes nothing.

        Yields:
            A local path for the file, and an entry that is filled once the file is stored, for
            `commit_parts`.

        Args:
            key: of the job that makes the stage; a local storage keeps the file in its `work`.
            name: path of the file below the stage.
        """
        entry: FileEntry = {}
        place = f"{uuid.uuid4().hex}/{name}"
        target = self._part_path(stage, key, place)
        if not self.remote:
            path = Path(target)
            self.refuse_links(str(path.parent))
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path, entry
            entry |= _entry(path) | {"at": place}
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / PurePosixPath(name).name
            yield path, entry
            self._in_directory(target, partial(self.fs.put_file, str(path), target))
            entry |= _entry(path) | {"at": place}

    def part_path(self, stage: str, key: str, entry: FileEntry) -> str:
        """Where a part lies, as the file system writes it."""
        return self._part_path(stage, key, str(entry["at"]))

    def _part_path(self, stage: str, key: str, place: str) -> str:
        return self.path(stage, place) if self.remote else self.path("work", key, PARTS, place)

    def commit_parts(
        self,
        stage: str,
        key: str,
        parts: Mapping[str, FileEntry],
        directory: Path,
        about: Mapping[str, object],
    ) -> bool:
        """Commit a stage of parts that were written before; their bytes are neither read nor moved.

        Args:
            parts: by path below the stage, as `part` filled them.
            directory: with further, small files of the stage.

        Returns:
            False if another writer was first.

        Raises:
            PartsMissingError: parts are not where they were written.
            StoreError: a link is in the working directory of the job.
        """
        manifest = self._manifest_of(stage, about)
        if self.remote:
            self._look_for_parts(stage, parts)
            manifest["files"] = {**parts, **_checksums(directory)}
            return self._commit_remote(stage, directory, manifest)
        collected = self._collect_parts(key, parts)
        further = _names(directory)
        # Of a commit that was interrupted, or of parts that were divided otherwise.
        for name in _names(collected) - parts.keys() - further:
            (collected / name).unlink()
        for name in further:
            (collected / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).rename(collected / name)
        shutil.rmtree(directory)
        kept = {name: {k: v for k, v in file.items() if k != "at"} for name, file in parts.items()}
        manifest["files"] = {**kept, **_checksums_of(collected, further)}
        return self._commit_local(stage, collected, manifest)

    def _look_for_parts(self, stage: str, parts: Mapping[str, FileEntry]) -> None:
        found = self.fs.find(self.path(stage), detail=True)
        sizes = {PurePosixPath(path).relative_to(self.path(stage)): f for path, f in found.items()}
        missing = [
            name
            for name, file in parts.items()
            if not _is_part(name, file)
            or sizes.get(PurePosixPath(str(file["at"])), {}).get("size") != file["bytes"]
        ]
        if missing:
            raise PartsMissingError(missing)

    def _collect_parts(self, key: str, parts: Mapping[str, FileEntry]) -> Path:
        """Move the parts to the directory that becomes the stage; go on where one was killed."""
        work = self._work_directory(key)
        collected = work / "stage"
        sources = {name: work / PARTS / str(file["at"]) for name, file in parts.items()}
        missing = [
            name
            for name, file in parts.items()
            if not _is_part(name, file)
            or _size(sources[name]) != file["bytes"] != _size(collected / name)
        ]
        if missing:
            raise PartsMissingError(missing)
        for name, source in sources.items():
            (collected / name).parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                source.rename(collected / name)
        return collected

    def fetch(self, stage: str) -> Path:
        """A complete stage as a local directory, whose files are as they were committed.

        Of a remote storage it is downloaded once, and again if it was deleted and made again. It
        stays in this machine's cache as long as this object, and longer while there is room. How
        often its files are read for that is said in cache.py.

        Raises:
            StoreError: it is not complete, or files are missing or not as its manifest says.
        """
        manifest = self.manifest(stage)
        if not self.remote:
            directory = Path(self.path(stage))
            damaged = self._damaged(stage, manifest, directory)
        else:
            directory = self._local / stage
            self._keep(stage, manifest)
            damaged = self._damaged(stage, manifest, directory)
            if damaged is not None:
                self._keep(stage, manifest, again=True)
                damaged = self._damaged(stage, manifest, directory)
        if damaged is not None:
            raise self._damage(stage, damaged)
        return directory

    def fetch_all(self, stages: Sequence[str]) -> list[Path]:
        """Complete stages as local directories, as `fetch` gives one; downloaded side by side.

        Raises:
            StoreError: as of `fetch`.
        """
        with ThreadPoolExecutor(_FETCHES if self.remote else 1) as threads:
            return list(threads.map(self.fetch, stages))

    def verification(self, stage: str) -> Path:
        """A file that grows while a machine reads the files of a large stage for the first time."""
        return self._verified.record(stage)

    def _damage(self, stage: str, name: str) -> StoreError:
        place = f"{self.uri}/{stage}"
        return StoreError(f"{place}/{name} is missing or damaged; delete {place} to make it again")

    def _damaged(self, stage: str, manifest: Manifest, directory: Path) -> str | None:
        """A file that is missing or damaged; None if there is none.

        Args:
            directory: with the files of the stage.
        """
        files = {}
        for name, file in manifest["files"].items():
            path = inside(directory, name)
            self.refuse_links(str(path))
            files[path] = file["bytes"], file["sha256"]
        damaged = self._verified.damaged(stage, files)
        return None if damaged is None else damaged.relative_to(directory).as_posix()

    def _keep(self, stage: str, manifest: Manifest, again: bool = False) -> None:
        """Keep a stage of a remote storage in this machine's cache.

        Args:
            again: download it although it is there.
        """
        directory = self._local / stage
        size = sum(file["bytes"] for file in manifest["files"].values())
        self._cache.use(stage, size)
        # Not the lock of `work`, which a job may hold on the very stage that it reads next.
        with locked(self._local / "locks" / f"fetch-{PurePosixPath(stage).name}"):
            text, cached = json.dumps(manifest), directory / MANIFEST
            # Another manifest is that of a stage that was deleted and made again.
            if again or not cached.exists() or cached.read_text(encoding="utf-8") != text:
                self.remove_leftovers()  # of killed processes, on nodes without a driver too
                self._cache.make_room(size)
                fresh = self.new(stage)
                self._download_files(stage, manifest, fresh)
                write_synced(fresh / MANIFEST, text)
                directory.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(directory, ignore_errors=True)
                fresh.rename(directory)
            self._cache.touch(directory)

    def _download_files(self, stage: str, manifest: Manifest, directory: Path) -> None:
        sources, targets = [], []
        for name, file in manifest["files"].items():
            target = inside(directory, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            sources.append(self.path(str(inside(Path(stage), file["at"]))))
            targets.append(str(target))
        try:
            self.fs.get(sources, targets)  # side by side, where the file system can
        except FileNotFoundError:
            shutil.rmtree(directory, ignore_errors=True)
            present = self.infos(stage)
            lost = [n for n, f in manifest["files"].items() if f"{stage}/{f['at']}" not in present]
            # Another manifest is that of a stage that was made again meanwhile.
            if lost and self.manifest(stage) == manifest:
                raise self._damage(stage, lost[0]) from None
            raise


def parse_manifest(stage: str, text: bytes) -> Manifest:
    """The content of a stage's manifest.

    Raises:
        ValueError: it is damaged, or another stage's.
    """
    manifest: Manifest = from_json(text)
    if _ManifestShape.model_validate(manifest).stage != stage:
        raise ValueError("it is another stage's")
    return manifest


def _is_part(name: str, file: FileEntry) -> bool:
    """Whether an entry, which others may write, names a place that `Store.part` gives a file."""
    return re.fullmatch(f"[0-9a-f]{{32}}/{re.escape(name)}", str(file["at"])) is not None


def _size(file: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def _names(directory: Path) -> set[str]:
    """The paths of all files below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix() for path in files}


def _checksums(directory: Path) -> dict[str, FileEntry]:
    return _checksums_of(directory, _names(directory))


def _checksums_of(directory: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    return {name: _entry(directory / name) for name in sorted(names)}


def _entry(file: Path) -> FileEntry:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    return {"bytes": file.stat().st_size, "sha256": checksum(file)}
