"""The stages of remote storages that a machine keeps, within a limit.

    <cache>/stages/<kind>/<key>/             a fetched stage; its manifest's time is its last use
    <cache>/uses/<kind>/<key>/<process>.<n>  bytes of a stage that a process uses, or will fetch

Before a stage is fetched, the least recently used stages go until all have room, never those in use
by a living process of this machine. What is being fetched counts as if it were there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from orchestrator.storage.file_lock import locked
from orchestrator.storage.process import Process

log = logging.getLogger(__name__)

LIMIT: Final = "BRIDGESWEEP_CACHE_GB"
"""Environment variable: the limit of all caches of a machine, in 10^9 bytes."""
_SHARE_OF_DISK: Final = 0.2
_FOREIGN_USE_S: Final = 24 * 3600.0
"""Age of a use by a process that cannot be seen from here, after which it is over."""
_MANIFEST: Final = "manifest.json"


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
        self._uses.add(use)

    def release(self) -> None:
        """End all uses of this object; nothing in a forked child, whose parent goes on."""
        for use in self._uses:
            if use.name.startswith(f"{Process.current().file_name}."):
                use.unlink(missing_ok=True)
        self._uses.clear()

    def touch(self, directory: Path) -> None:
        """Record that a fetched stage is used now."""
        os.utime(directory / _MANIFEST)

    def make_room(self) -> None:
        """Delete least recently used stages until the others, and all in use, have room."""
        self._root.mkdir(parents=True, exist_ok=True)
        limit = self._limit or _SHARE_OF_DISK * shutil.disk_usage(self._root).total
        with self._locked():
            in_use = self._in_use()
            cached = {file.directory: file for file in self._cached()}
            coming = {place: size for place, size in in_use.items() if place not in cached}
            total = sum(stage.size for stage in cached.values()) + sum(coming.values())
            free = [stage for place, stage in cached.items() if place not in in_use]
            doomed = []
            for stage in sorted(free, key=lambda stage: stage.used):
                if total <= limit:
                    break
                doomed.append(self._take_away(stage.directory))
                total -= stage.size
        for directory in doomed:
            shutil.rmtree(directory, ignore_errors=True)
        if total > limit:
            log.warning(
                "the cache %s takes %s, more than its limit of %s (%s): all of it is in use",
                *(self._root, decimal(int(total)), decimal(int(limit)), LIMIT),
            )

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
