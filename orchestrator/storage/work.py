"""Working directories: of jobs, which survive kills, and of what a process is writing.

tmp/<key>.<process>.<n>/          what one process writes, until it is committed
work/<key>/                       of a job, for one process at a time
work/<key>/evaluation-<key>/      of a pass that makes evaluations of the job's point
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.storage.disk import locked
from orchestrator.storage.files import Files
from orchestrator.storage.lease import Lease, Waits, hold, hold_all
from orchestrator.storage.process import Process

_WHOLE: Final = ".whole.json"
"""Ends the name of the file that is written behind an upload: path -> bytes of its files."""
_uploads = itertools.count()
FOREIGN_LEFTOVER_S = 24 * 3600.0
"""Age of what another machine was writing, after which it is deleted."""
UNSAVED_S = 30 * FOREIGN_LEFTOVER_S
"""Age of work that the storage lacks, after which nobody is expected to go on with it."""
_UNSAVED: Final = "unsaved."
"""Begins the name of a file that stands for a part which the storage has not got yet."""
_TEMPORARY = re.compile(
    r".+\.(?P<boot>[0-9a-f]{12})\.(?P<pid>\d+)\.(?P<started_ms>\d+)\.[0-9a-f]{8}", re.DOTALL
)


def lease_of_job(key: str) -> str:
    """Name of the lease of a job's working directory."""
    return f"job-{key}"


class WorkFiles(Files):
    """The working directories of a storage; of a remote one they are in this machine's cache.

    Args:
        uri, cache, remote: as of `Files`.
    """

    def new(self, stage: str) -> Path:
        """An empty local directory to write a stage's output to, for `commit`."""
        name = f"{PurePosixPath(stage).name}.{Process.current().file_name}"
        directory = self.local("tmp", f"{name}.{uuid.uuid4().hex[:8]}")
        directory.mkdir(parents=True)
        return directory

    @contextlib.contextmanager
    def work(self, key: str, waits: Waits = lambda line: None) -> Iterator[tuple[Path, Lease]]:
        """The working directory of a job, which survives kills, for one process at a time.

        A second process waits until the first is done or dead: an orphan of a killed driver can
        live on for some seconds, and must not write beside its successor.

        Args:
            key: of the job.
            waits: as of `Waits`.

        Yields:
            The directory, and the lease to `check` before each write that another holder may make.
        """
        with hold(self, lease_of_job(key), waits=waits) as lease, self._in_use(key):
            directory = self._work_directory(key)
            directory.mkdir(parents=True, exist_ok=True)
            yield directory, lease

    @contextlib.contextmanager
    def _in_use(self, *keys: str) -> Iterator[None]:
        """Keep this machine's working directories from being swept."""
        with contextlib.ExitStack() as stack:
            for key in keys if self.remote else ():
                stack.enter_context(self._locked(key, fcntl.LOCK_SH))
            yield

    def _locked(self, key: str, mode: int) -> contextlib.AbstractContextManager[None]:
        """The lock of a job's working directory in a cache; its age protects it as well."""
        return locked(self.local("locks", f"work-{key}"), mode, temporary=True)

    def _work_directory(self, key: str) -> Path:
        """The working directory of a job.

        Raises:
            StoreError: a link is on the way to it, or in it.
        """
        self.refuse_links_in("work", key)
        return self.local("work", key)

    @contextlib.contextmanager
    def work_of(
        self, keys: Iterable[str], waits: Waits = lambda line: None
    ) -> Iterator[tuple[dict[str, Path], dict[str, Lease]]]:
        """The working directories of several jobs, as `work` gives one.

        Yields:
            The directories and the leases by key.
        """
        names = {key: lease_of_job(key) for key in keys}
        with hold_all(self, names.values(), waits=waits) as leases, self._in_use(*names):
            directories = {key: self._work_directory(key) for key in names}
            for directory in directories.values():
                directory.mkdir(parents=True, exist_ok=True)
            yield directories, dict(zip(sorted(names), leases, strict=True))

    @contextlib.contextmanager
    def evaluation_work(
        self, key: str, evaluation: str, waits: Waits = lambda line: None
    ) -> Iterator[tuple[Path, Lease]]:
        """The working directory of evaluations made in one pass, for one process at a time.

        It lies in the working directory of the point's job, and `remove_work` deletes both.

        Args:
            key: of the job.
            evaluation: key of the pass.
            waits: as of `work`.
        """
        with hold(self, f"evaluation-{evaluation}", waits=waits) as lease, self._in_use(key):
            yield self._work_directory(key) / f"evaluation-{evaluation}", lease

    def evaluation_leases(self, key: str) -> set[str]:
        """The names of the leases of the evaluations in a job's working directory."""
        names = {path.name for path in self.local("work", key).glob("*")}
        names |= set(self.names(f"work/{key}") if self.remote else ())
        return {name for name in names if name.startswith("evaluation-")}

    def remove_work(self, key: str) -> None:
        """Delete the working directory of a job, and the checkpoints of its Ray Train run."""
        shutil.rmtree(self.local("work", key), ignore_errors=True)
        for directory in (f"work/{key}", f"train/{key}"):
            self.remove_tree(directory)

    def save_work(self, key: str, directory: Path, name: str, lease: Lease) -> None:
        """Copy a part of a working directory to the remote storage, for other nodes.

        It replaces what this holder of the lease, or one before, has copied, once it is whole: an
        orphan that still copies neither replaces nor deletes what its successor has copied.

        Args:
            key: of the job.
            directory: is copied.
            name: of the part.
            lease: of the working directory.

        Raises:
            LeaseLostError: another process works there by now.
        """
        assert self.remote
        part, upload = f"work/{key}/{name}", f"{lease.number:06d}-{next(_uploads):09d}"
        unsaved = self.local("work", key, f"{_UNSAVED}{name.replace('/', '.')}")
        unsaved.parent.mkdir(parents=True, exist_ok=True)
        unsaved.touch()
        files = _listed(directory)
        self.upload(directory, self.path(part, upload))
        lease.check()
        self.write(f"{part}/{upload}{_WHOLE}", files)
        before = [stored for stored in self.names(part) if stored < upload]
        self.remove(f"{part}/{stored}" for stored in before if stored.endswith(_WHOLE))
        for stored in before:
            self.remove_tree(f"{part}/{stored}")
        unsaved.unlink(missing_ok=True)

    def load_work(self, key: str, name: str, directory: Path) -> bool:
        """Copy the newest part that `save_work` has kept whole to a local directory.

        Returns:
            False if it kept none, or if the files were deleted meanwhile.
        """
        assert self.remote
        part = f"work/{key}/{name}"
        for stored in reversed(self.names(part)):
            if stored.endswith(_WHOLE):
                fresh = self.new(key)
                self.download(self.path(part, stored.removesuffix(_WHOLE)), fresh)
                if any(fresh.iterdir()) and _listed(fresh) == self.read(f"{part}/{stored}"):
                    directory.parent.mkdir(parents=True, exist_ok=True)
                    fresh.rename(directory)
                    return True
                shutil.rmtree(fresh)
        return False

    def remove_leftovers(self) -> None:
        """Delete what dead processes left in `tmp`, and old work in the cache of a remote storage.

        Of processes that cannot be seen from here, such as those of a lost machine, that to which
        nothing was written for a day, by the clock of the file system. So long lies the work of a
        job that went on elsewhere, and for a month what could not be uploaded.
        """
        for directory in self.local("work").glob("*") if self.remote else ():
            # A process works there, or another one sweeps.
            with (
                contextlib.suppress(BlockingIOError, FileNotFoundError),
                self._locked(directory.name, fcntl.LOCK_EX | fcntl.LOCK_NB),
            ):
                is_unsaved = any(directory.glob(f"{_UNSAVED}*"))
                if self._is_old(directory, UNSAVED_S if is_unsaved else FOREIGN_LEFTOVER_S):
                    shutil.rmtree(directory, ignore_errors=True)
        for directory in self.local("tmp").glob("*"):
            if (match := _TEMPORARY.fullmatch(directory.name)) is None:
                continue  # not made here, such as `.DS_Store` or `.nfs...`
            owner = Process("", match["boot"], int(match["pid"]), int(match["started_ms"]))
            with contextlib.suppress(FileNotFoundError):  # its owner has just finished with it
                if owner.is_gone or (not owner.is_here and self._is_old(directory)):
                    shutil.rmtree(directory, ignore_errors=True)

    def _is_old(self, directory: Path, age_s: float = FOREIGN_LEFTOVER_S) -> bool:
        """Whether nothing was written to a directory for so long that its writer must be dead.

        This machine's clock may be wrong: another file is written just now to compare with.
        """
        now = self.local("tmp", f"{uuid.uuid4().hex}.now")
        now.parent.mkdir(parents=True, exist_ok=True)
        try:
            now.touch(exist_ok=False)
            written = [path.lstat().st_mtime for path in (directory, *directory.rglob("*"))]
            return now.stat().st_mtime - max(written) > age_s
        finally:
            now.unlink(missing_ok=True)


def _listed(directory: Path) -> bytes:
    """The files below a directory and their bytes, as JSON."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    sizes = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    return json.dumps(sizes, sort_keys=True).encode()
