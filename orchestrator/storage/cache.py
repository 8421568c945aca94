"""What a machine keeps of a storage: stages of a remote one, within a limit, and what it has read.

    <cache>/stages/<kind>/<key>/             a fetched stage; its manifest's time is its last use
    <cache>/uses/<kind>/<key>/<process>.<n>  bytes of a stage that a process uses, or will fetch
    <cache>/room.json                        bytes that may be fetched before stages are looked at
    <cache>/verified/<kind>/<key>            a line per file of a large stage that is as committed

Before a stage is fetched for which there is no room, the least recently used stages go, never those
in use by a living process. What is being fetched counts as if it were there. Where machines share a
cache, as in a home directory, processes of other machines are alive that renew their uses.

Before a stage is used, its files are compared with the checksums of its manifest: a flipped bit
would change numbers, and nothing else. A stage of up to `SMALL` is read for that each time. Of a
larger one each file is read once per machine, however many processes use it, until its size, times
or inode change; what is read stays noted when the reader is killed. That finds what disks, copies
and people do by mistake, not somebody who writes a manifest that fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from orchestrator.storage.disk import locked, regular_status
from orchestrator.storage.process import Process

log = logging.getLogger(__name__)

LIMIT: Final = "BRIDGESWEEP_CACHE_GB"
"""Environment variable: the limit of all caches of a machine, in 10^9 bytes."""
_SHARE_OF_DISK: Final = 0.2
RENEW_S: Final = 3600.0
"""Seconds between two renewals of a use."""
_FOREIGN_USE_S: Final = 24 * RENEW_S
"""Age of a use by a process that cannot be seen from here, after which it is over."""
_KEPT: Final = 0.9
"""Share of the limit that is kept where stages have to go, so that the next ones find room."""
_MANIFEST: Final = "manifest.json"
SMALL: Final = 16 * 2**20
"""Bytes of a stage that every user of it reads: for a hundredth of a second."""
_READERS: Final = 8
"""Files that are read at a time."""


def _limit_in_environment() -> float | None:
    """Bytes that the caches may take; None if the environment says nothing.

    Raises:
        ValueError: it says no number above 0.
    """
    text = os.environ.get(LIMIT)
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return 1e9 * float(text)
    raise ValueError(f"{LIMIT} = {text!r}: gigabytes, a number above 0")


def checksum(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class VerifiedFiles:
    """The files of a storage's large stages that this machine has read and found undamaged.

    Args:
        directory: of the cache.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def record(self, stage: str) -> Path:
        """The file that grows while a large stage is read; it may not exist.

        Args:
            stage: `stages/<kind>/<key>`.
        """
        return self._directory / stage.replace("stages", "verified", 1)

    def damaged(self, stage: str, files: Mapping[Path, tuple[int, str]]) -> Path | None:
        """A file of a stage that is not as its manifest says; None if all are.

        Args:
            files: path of each on this machine -> bytes and SHA-256 in the manifest.
        """
        statuses = {path: regular_status(path) for path in files}
        for path, (size, _) in files.items():
            status = statuses[path]
            if status is None or status.st_size != size:
                return path
        if sum(size for size, _ in files.values()) <= SMALL:
            return next((path for path in files if checksum(path) != files[path][1]), None)
        identities = {
            path: _identity(path, status, files[path][1])
            for path, status in statuses.items()
            if status is not None
        }
        if not self._unread(stage, identities):
            return None
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # without a cache every process reads for itself
                stack.enter_context(
                    locked(self._directory / "locks" / f"verify-{Path(stage).name}")
                )
            return self._read(stage, files, identities)

    def _read(
        self,
        stage: str,
        files: Mapping[Path, tuple[int, str]],
        identities: Mapping[Path, str],
    ) -> Path | None:
        """Read what no process of this machine has read by now."""
        unread = self._unread(stage, identities)
        size = sum(files[path][0] for path in unread)
        log.info("%s of %s are read to compare their checksums", decimal(size), stage)
        with ThreadPoolExecutor(_READERS) as readers:
            for path, digest in zip(unread, readers.map(checksum, unread), strict=True):
                if digest != files[path][1]:
                    readers.shutdown(cancel_futures=True)
                    return path
                self._note(stage, identities[path])
        return None

    def _unread(self, stage: str, identities: Mapping[Path, str]) -> list[Path]:
        noted = frozenset[str]()
        with contextlib.suppress(OSError):
            noted = frozenset(self.record(stage).read_text(encoding="ascii").split())
        return [path for path, identity in identities.items() if identity not in noted]

    def _note(self, stage: str, identity: str) -> None:
        record = self.record(stage)
        with contextlib.suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="ascii") as file:
                file.write(f"{identity}\n")


def _identity(path: Path, status: os.stat_result, digest: str) -> str:
    """What changes when a file does, or what it should contain."""
    # Who sets the time of a file back cannot set that of this change back.
    changes = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.sha256(json.dumps([str(path), *changes, digest]).encode()).hexdigest()


@dataclass(frozen=True)
class _Cached:
    """A stage that is there.

    Attributes:
        used: seconds since 1970 of its last use.
    """

    directory: Path
    size: int
    used: float


class StageCache:
    """The fetched stages of one storage.

    Args:
        directory: of the cache.
        shared: directory of the caches of all storages, which share one limit; None for this one
            alone.

    Raises:
        ValueError: the environment variable `LIMIT` is no number above 0.
    """

    def __init__(self, directory: Path, shared: Path | None = None) -> None:
        self._limit = _limit_in_environment()
        self._directory = directory
        self._root = shared or directory
        self._caches = "*/" if shared is not None else ""
        self._name = uuid.uuid4().hex[:8]
        self._uses: set[Path] = set()
        self._released = threading.Event()
        self._room = self._root / "room.json"

    def use(self, stage: str, size: int) -> None:
        """Keep a stage, there or not yet, until `release` or the end of this process.

        Args:
            stage: `stages/<kind>/<key>`.
            size: bytes of its files.
        """
        use = (
            self._directory
            / stage.replace("stages", "uses", 1)
            / f"{Process.current().file_name}.{self._name}"
        )
        with self._locked():
            use.parent.mkdir(parents=True, exist_ok=True)
            use.write_text(str(size), encoding="ascii")
        if not self._uses:
            self._released.clear()
            threading.Thread(target=self._renew, name="cache", daemon=True).start()
        self._uses.add(use)

    def _renew(self) -> None:
        """Renew all uses until `release`, for machines that cannot see this process."""
        while not self._released.wait(RENEW_S):
            for use in tuple(self._uses):
                with contextlib.suppress(OSError):  # the next time it may succeed
                    os.utime(use)

    def release(self) -> None:
        """End all uses of this object; nothing in a forked child, whose parent goes on."""
        for use in tuple(self._uses):  # a thread may still fetch
            if use.name.startswith(f"{Process.current().file_name}."):
                use.unlink(missing_ok=True)
        self._uses.clear()
        self._released.set()

    def touch(self, directory: Path) -> None:
        """Record that a fetched stage is used now."""
        os.utime(directory / _MANIFEST)

    def make_room(self, size: int) -> None:
        """Make room for a stage that is in use and about to be fetched.

        Where there is none, least recently used stages are deleted until the others, and all in
        use, take `_KEPT` of the limit.

        Args:
            size: bytes of its files.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        limit = self._limit or _SHARE_OF_DISK * shutil.disk_usage(self._root).total
        with self._locked():
            room = self._room_left(limit) - size
            if room >= 0:
                self._write_room(limit, room)
                return
            in_use = self._in_use()
            cached = {file.directory: file for file in self._cached()}
            coming = {place: size for place, size in in_use.items() if place not in cached}
            total = sum(stage.size for stage in cached.values()) + sum(coming.values())
            kept = limit if total <= limit else _KEPT * limit
            free = [stage for place, stage in cached.items() if place not in in_use]
            doomed = []
            for stage in sorted(free, key=lambda stage: stage.used):
                if total <= kept:
                    break
                doomed.append(self._take_away(stage.directory))
                total -= stage.size
            self._write_room(limit, limit - total)
        for directory in doomed:
            shutil.rmtree(directory, ignore_errors=True)
        if total > limit:
            log.warning(
                "the cache %s takes %s, more than its limit of %s (%s): all of it is in use",
                *(self._root, decimal(int(total)), decimal(int(limit)), LIMIT),
            )

    def _room_left(self, limit: float) -> float:
        """Bytes that may be fetched before all stages are looked at; below 0 if that is not known.

        Nothing but a fetch makes the cache larger, so at least that much is free.
        """
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            content = json.loads(self._room.read_text(encoding="ascii"))
            if content["limit"] == limit:
                return float(content["room"])
        return -1.0

    def _write_room(self, limit: float, room: float) -> None:
        self._room.write_text(json.dumps({"limit": limit, "room": room}), encoding="ascii")

    def _take_away(self, directory: Path) -> Path:
        """Move a stage out of the cache, in one step; leftovers in `tmp` go by themselves."""
        name = f"{directory.name}.{Process.current().file_name}.{uuid.uuid4().hex[:8]}"
        target = directory.parents[2] / "tmp" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return directory.rename(target)

    def _cached(self) -> Iterator[_Cached]:
        for manifest in self._root.glob(f"{self._caches}stages/*/*/{_MANIFEST}"):
            with contextlib.suppress(FileNotFoundError, ValueError):  # a fetch replaces it
                files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
                size = sum(file["bytes"] for file in files.values())
                yield _Cached(manifest.parent, size, manifest.stat().st_mtime)

    def _in_use(self) -> dict[Path, int]:
        """Directory -> bytes of each stage that a living process uses; forgets all other uses."""
        sizes: dict[Path, int] = {}
        for use in self._root.glob(f"{self._caches}uses/*/*/*"):
            with contextlib.suppress(FileNotFoundError, ValueError):  # its user has just finished
                if _is_over(use):
                    use.unlink()
                else:
                    kind, key = use.parts[-3:-1]
                    sizes[use.parents[3] / "stages" / kind / key] = int(use.read_text("ascii"))
        return sizes

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._root / "locks" / "cache")


def _is_over(use: Path) -> bool:
    boot, pid, started_ms, _ = use.name.split(".")
    user = Process("", boot, int(pid), int(started_ms))
    age = time.time() - use.stat().st_mtime
    return user.is_gone or (age > _FOREIGN_USE_S and not user.is_here)
