"""The files of a storage: a local directory or any fsspec file system."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from pydantic import ValidationError

from orchestrator.storage.disk import Disk, read_regular
from orchestrator.storage.disk import StoreError as StoreError
from search_spaces.settings.secrets import printable

_NO_LINKS: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links answer, such as exFAT, CIFS and some in user space."""
_MOST_AT_ONCE: Final = 1000
"""Files that S3 deletes with one request."""
_MAGIC: Final = frozenset("*?[")
"""Characters that make a pattern of a name."""


@dataclass(frozen=True)
class FileInfo:
    """What a listing says of a file.

    Attributes:
        size: bytes.
        written: seconds since 1970 when it was written; None if the file system does not tell.
    """

    size: int
    written: float | None


class Files:
    """The files of a storage.

    On a disk no link below its root is followed (see disk.py): `StoreError` names the link.

    Args:
        uri: a directory or fsspec URI.
        cache: where remote stages are fetched to, and large stages that were read whole are noted;
            by default a directory of this user's cache.
        remote: treat the storage as remote although it is a local directory (for tests).
    """

    def __init__(self, uri: str, cache: Path | None = None, remote: bool | None = None) -> None:
        # Other machines write, too: what is there is asked for each time.
        self.fs, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        local = "file" in _protocols(self.fs)
        self.remote = (not local) if remote is None else remote
        self.root = str(Path(root).resolve()) if local else root.rstrip("/")
        if local:
            self.fs = Disk(self.root)
        self.uri = self.root if local else uri.rstrip("/")
        self._caches: Path | None = None
        """Directory of the caches of all storages, where this one's is among them."""
        if cache is None:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:12]
            self._caches = _user_cache(self.remote) / "bridgesweep"
            cache = self._caches / name
        self._cache_directory = cache
        self._local = cache if self.remote else Path(self.root)

    def path(self, *names: str) -> str:
        """A path below the storage, as the file system writes it.

        Raises:
            StoreError: it would lead out of the storage.
        """
        return "/".join([self.root, *_checked(names)])

    def local(self, *names: str) -> Path:
        """A path on this machine: in the storage where that is local, else in the cache.

        Raises:
            StoreError: a link is on the way to it, or it would lead out of the storage.
        """
        path = Path("/".join([str(self._local), *_checked(names)]))
        self.refuse_links(str(path.parent))
        return path

    def refuse_links(self, path: str) -> None:
        """Make sure that no link is on the way to a file or directory of a storage on a disk.

        Raises:
            StoreError: one is.
        """
        if isinstance(self.fs, Disk):
            self.fs.refuse_links(path)

    def refuse_links_in(self, *names: str) -> None:
        """Make sure that no link is on the way to a directory of a storage on a disk, or in it.

        Raises:
            StoreError: one is.
        """
        if isinstance(self.fs, Disk):
            self.fs.refuse_links_in(Path(self.path(*names)))

    def write(self, name: str, data: bytes) -> str:
        """Write a file whole; returns its path."""
        path = self.path(name)
        if self._is_on_disk:
            self._in_directory(path, partial(_replace, Path(path), data))
        else:  # object stores show a file only when it is complete
            self._in_directory(path, partial(self.fs.pipe_file, path, data))
        return path

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that does not exist yet, whole; of several writers, one wins.

        Uses a hard link on disks, also shared ones, and the conditional write of object stores.

        Args:
            data: differs from the data of any other writer.

        Returns:
            False if another writer was first.
        """
        path = self.path(name)
        create = (
            partial(_link_new, Path(path)) if self._is_on_disk else partial(self._put_new, path)
        )
        try:
            self._in_directory(path, partial(create, data))
        except FileExistsError:
            # A write whose answer was lost is sent again and then refused: it may be this one.
            with contextlib.suppress(StoreError):
                return self.read(name) == data
            return False
        return True

    @property
    def creates_in_one_step(self) -> bool:
        """Whether `create` is safe: fsspec's default looks for the file, then writes it."""
        if self._is_on_disk or isinstance(self.fs, AsyncFileSystem):
            return True
        return type(self.fs).pipe_file is not AbstractFileSystem.pipe_file

    def _in_directory(self, path: str, write: Callable[[], object]) -> None:
        """Write a file; make its directory only if that is missing: object stores have none."""
        directory = str(PurePosixPath(path).parent)
        self.refuse_links(directory)
        try:
            write()
        except FileNotFoundError:
            self.fs.makedirs(directory, exist_ok=True)
            write()

    def _put_new(self, path: str, data: bytes) -> None:
        for seconds in (0.5, 1.0, 2.0, None):
            try:
                self.fs.pipe_file(path, data, mode="create")
                return
            except OSError as error:
                # S3's answer to two conditional writes at the same moment: to be sent again.
                if "ConditionalRequestConflict" not in str(error) or seconds is None:
                    raise
                time.sleep(seconds)

    def exists(self, name: str) -> bool:
        """Whether a file or a directory is there."""
        return bool(self.fs.exists(self.path(name)))

    def is_file(self, name: str) -> bool:
        """Whether a file is there that is not empty; one request, as it asks for no directory."""
        try:
            return bool(self.fs.cat_file(self.path(name), start=0, end=1))
        except (FileNotFoundError, NotADirectoryError, StoreError):
            return False

    def names(self, directory: str) -> list[str]:
        """The sorted names of the complete files in a directory; empty where there is none."""
        try:
            files = self.fs.ls(self.path(directory), detail=False)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(file).name for file in files)
        return sorted(name for name in names if not name.endswith(".tmp") and name != "..")

    def directories(self) -> list[str]:
        """The sorted names of the directories at the top of the storage, and of links to others."""
        try:
            entries = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            return []
        names = {
            PurePosixPath(entry["name"]).name
            for entry in entries
            if entry["type"] == "directory"
            or (entry.get("islink") and Path(entry["name"]).is_dir())
        }
        return sorted(names - {".."})

    def missing_bucket(self) -> str | None:
        """The name of the bucket of this storage if that does not exist, or may not be seen."""
        bucket = self.root.partition("/")[0]
        return bucket if bucket and not self._is_on_disk and not self.fs.exists(bucket) else None

    def size(self, name: str) -> int:
        """Bytes of a file; 0 if it does not exist."""
        try:
            return int(self.fs.size(self.path(name)) or 0)
        except FileNotFoundError:
            return 0

    def read(self, name: str) -> bytes | None:
        """A file's content; None if the file does not exist.

        Raises:
            StoreError: it is no regular file, or a link is on the way to it.
        """
        path = self.path(name)
        try:
            # Without a start, S3 is asked for the size first.
            return bytes(self.fs.cat_file(path, start=0))
        except FileNotFoundError:
            return None
        except OSError as error:
            # S3 has no range of an empty file; s3fs has this number for many refusals.
            if error.errno != errno.EINVAL or self.fs.size(path) != 0:
                raise
            return b""

    def below(self, directory: str) -> dict[str, float | None]:
        """The files at any depth below a directory; of S3, one request per thousand.

        Returns:
            Path below the storage -> seconds since 1970 when it was written, None if not known.
        """
        return {path: info.written for path, info in self.infos(directory).items()}

    def infos(self, directory: str) -> dict[str, FileInfo]:
        """Path below the storage -> size and age, of the files that `below` finds."""
        place = self.path(directory)
        above, _, name = place.rpartition("/")
        # Object stores filter by prefix; asked for a directory without files, they look twice.
        asked = {"path": place} if self._is_on_disk else {"path": above, "prefix": f"{name}/"}
        try:
            files = self.fs.find(**asked, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path.removeprefix(f"{self.root}/"): FileInfo(int(entry["size"]), _modified(entry))
            for path, entry in sorted(files.items())
            # On a disk, not links and pipes; an object's name may be anything.
            if path.startswith(f"{place}/")
            and entry["type"] == "file"
            and ".." not in path.split("/")
        }

    def now(self) -> float | None:
        """Seconds since 1970 by the clock of the file system; None if it does not tell.

        Ages of files are to be compared with it: this machine's clock may be wrong.
        """
        path = self.write(f"tmp/{uuid.uuid4().hex}.now", b"now")
        try:
            return _modified(self.fs.info(path))
        finally:
            self._remove_each([path])

    def remove_tree(self, directory: str) -> None:
        """Delete a directory, if it is there."""
        if isinstance(self.fs, Disk):
            self.fs.remove_tree(self.path(directory))
        else:
            self.remove(self.below(directory))

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, many with a request, and the directories that are empty then.

        Args:
            names: of the files; some may be gone.
        """
        paths = [self.path(name) for name in names]
        if not self._is_on_disk:
            # To `rm` these are patterns of many names.
            patterns = [path for path in paths if _MAGIC & set(path)]
            plain = [path for path in paths if not _MAGIC & set(path)]
            for start in range(0, len(plain), _MOST_AT_ONCE):
                self._remove_together(plain[start : start + _MOST_AT_ONCE])
            self._remove_each(patterns)
            return
        self._remove_each(paths)
        for directory in {parent for path in paths for parent in Path(path).parents}:
            if directory.is_relative_to(self.root) and directory != Path(self.root):
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def _remove_together(self, paths: list[str]) -> None:
        """Delete files with one request; S3 passes over missing ones."""
        try:
            self.fs.rm(paths)
        except FileNotFoundError:  # other file systems stop at the first missing one
            self._remove_each(paths)

    def _remove_each(self, paths: Iterable[str]) -> None:
        """Delete file after file; another process may be deleting the same ones."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(path)

    def read_all(self, names: Iterable[str]) -> list[bytes | None]:
        """The contents of several files, read side by side where the file system can.

        Returns:
            None for a file that does not exist, and nothing (`b""`) for what is no regular file.
        """
        names = list(names)
        paths = [self.path(name) for name in names]
        # `cat` takes names for patterns; without a start, S3 is asked for each size first.
        values = self.fs.cat_ranges(paths, 0, None, on_error="return")
        return [
            value if isinstance(value, bytes) else self._read_again(name, value)
            for name, value in zip(names, values, strict=True)
        ]

    def _read_again(self, name: str, error: Exception) -> bytes | None:
        """A file that could not be read beside others; None if it does not exist."""
        if isinstance(error, StoreError):
            return b""
        return None if isinstance(error, FileNotFoundError) else self.read(name)

    def put_file(self, source: Path, name: str) -> None:
        """Copy a local file to the storage.

        Raises:
            StoreError: it is in this storage, and a link is on the way to it.
        """
        self.refuse_links(str(source.parent))
        self.write(name, read_regular(source))

    @property
    def _is_on_disk(self) -> bool:
        return "file" in _protocols(self.fs)

    def upload(self, directory: Path, target: str) -> None:
        """Copy a local directory to a path of the storage."""
        for file in sorted(p for p in directory.rglob("*") if p.is_file()):
            path = f"{target}/{file.relative_to(directory).as_posix()}"
            self._in_directory(path, partial(self.fs.put_file, str(file), path))

    def download(self, source: str, directory: Path) -> None:
        """Copy a path of the storage to a local directory.

        Raises:
            StoreError: a name leads out of the directory.
        """
        for path in self.fs.find(source):
            target = inside(directory, str(PurePosixPath(path).relative_to(source)))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(path, str(target))


def _checked(names: Sequence[str]) -> Sequence[str]:
    """Names of a path below the storage.

    Raises:
        StoreError: they lead out of the storage, or through another directory of it.
    """
    for name in names:
        if "\0" in name or ".." in name.split("/"):
            raise StoreError(f"{name!r} leads out of the storage")
    return names


def inside(directory: Path, name: str) -> Path:
    """The path of a name that stands in a storage, where others may write.

    Raises:
        StoreError: the name leads out of the directory.
    """
    path = os.path.normpath(directory / name)
    if not path.startswith(f"{str(directory).rstrip('/')}/") or "\0" in name:
        raise StoreError(f"{name!r} in the storage leads out of {directory}")
    return Path(path)


def _user_cache(is_needed: bool) -> Path:
    """The directory of this user's caches; where there is none and none is needed, no directory.

    Raises:
        RuntimeError: one is needed.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # this user has no home
        if is_needed:
            raise
        return Path(os.devnull)


def line_of_shape(error: ValueError) -> str:
    """What is wrong in a file of JSON, in a line: pydantic lists all of it."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return printable(f"{place}: {first['msg']}" if place else first["msg"])


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _temporary(path: str | Path) -> Path:
    """A name beside a path; `Files.names` leaves it out."""
    return Path(f"{path}.{uuid.uuid4().hex}.tmp")


def _modified(entry: Mapping[str, object]) -> float | None:
    """When a file was written, from what a file system lists of it."""
    values = (entry.get(name) for name in ("mtime", "LastModified", "last_modified", "created"))
    value = next((value for value in values if value is not None), None)
    if isinstance(value, datetime):
        return value.timestamp()
    return value if isinstance(value, float) else None


def _replace(path: Path, data: bytes) -> None:
    """Write a local file, in one step."""
    temporary = _temporary(path)
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    finally:  # a full disk must not be filled with empty files
        temporary.unlink(missing_ok=True)


def _link_new(path: Path, data: bytes) -> None:
    """Write a local file that does not exist yet; raises FileExistsError if it does."""
    temporary = _temporary(path)
    try:
        write_synced(temporary, data)
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Readers may see a part of this file for a moment.
        write_synced(path, data, mode="xb")
    finally:
        temporary.unlink(missing_ok=True)


def write_synced(path: Path, content: str | bytes, mode: Literal["wb", "xb"] = "wb") -> None:
    """Write a local file that survives a loss of power."""
    with path.open(mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
