"""The files of a storage: a local directory or any fsspec file system."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path, PurePosixPath

import fsspec
from fsspec import AbstractFileSystem


class StoreError(RuntimeError):
    """A stage is not in the storage, or its files are missing or damaged."""


class Files:
    """The files of a storage.

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

    def write(self, name: str, data: bytes) -> str:
        """Write a file whole; returns its path."""
        path = self.path(name)
        self.fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if "file" in _protocols(self.fs):
            temporary = Path(f"{path}.{uuid.uuid4().hex}.tmp")
            write_synced(temporary, data)
            temporary.replace(path)
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
        write_synced(temporary, data)
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

    def upload(self, directory: Path, target: str) -> None:
        """Copy a local directory to a path of the storage."""
        for file in sorted(p for p in directory.rglob("*") if p.is_file()):
            path = f"{target}/{file.relative_to(directory).as_posix()}"
            self.fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            self.fs.put_file(str(file), path)

    def download(self, source: str, directory: Path) -> None:
        """Copy a path of the storage to a local directory.

        Raises:
            StoreError: a name leads out of the directory.
        """
        for path in self.fs.find(source):
            target = inside(directory, str(PurePosixPath(path).relative_to(source)))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(path, str(target))


def inside(directory: Path, name: str) -> Path:
    """The path of a name that stands in a storage, where others may write.

    Raises:
        StoreError: the name leads out of the directory.
    """
    path = Path(os.path.normpath(directory / name))
    if not path.is_relative_to(directory) or path == directory:
        raise StoreError(f"{name!r} in the storage leads out of {directory}")
    return path


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def write_synced(path: Path, content: str | bytes) -> None:
    """Write a local file that survives a loss of power."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
