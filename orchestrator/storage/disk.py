"""Files on a disk, where others may write, too.

A storage on a disk may itself be reached by a link. Below its root no link is followed, as it could
lead to files of whoever runs a sweep, and nothing but regular files is read: a pipe would keep its
reader for ever. Who needs another disk for a part of a storage mounts it there, or moves the whole
storage and links to that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from fsspec.implementations.local import LocalFileSystem

_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file is opened: a pipe is not waited for."""
_DIRECTORY: Final = (
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
"""How a directory is opened on the way to a file; Linux then asks no file server for it."""


_MOST_BYTES: Final = 2**28
"""Of a file that is read whole: a file of another writer may say that it has terabytes."""


class StoreError(RuntimeError):
    """A stage is not in the storage, or its files are missing or damaged."""


class Disk(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A local file system that follows no link below the root of a storage.

    Args:
        root: of the storage, without a link in it.
    """

    cachable = False

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root

    def refuse_links(self, path: str | Path) -> None:
        """Make sure that no link is on the way to a file or directory of the storage.

        Args:
            path: below the root; any other is not looked at.

        Raises:
            StoreError: one is.
        """
        place = self._root.rstrip("/")
        for name in self._names_below_root(str(path)):
            place = f"{place}/{name}"
            if os.path.islink(place):  # noqa: PTH114  tens of thousands of calls a sweep
                raise _refusal(Path(place))

    def refuse_links_in(self, directory: Path) -> None:
        """Make sure that no link is on the way to a directory of the storage, or anywhere in it.

        Raises:
            StoreError: one is.
        """
        self.refuse_links(directory)
        for link in links(directory):
            raise _refusal(link)

    def _names_below_root(self, path: str) -> tuple[str, ...]:
        path, above = os.path.normpath(path), f"{self._root.rstrip('/')}/"
        return tuple(path.removeprefix(above).split("/")) if path.startswith(above) else ()

    def open_regular(self, path: str) -> int:
        """Open a file of the storage for reading, in steps that nobody can put a link between.

        Returns:
            Its descriptor.

        Raises:
            StoreError: it is no regular file, or a link is on the way to it.
            FileNotFoundError: it does not exist.
        """
        *above, name = self._names_below_root(path)
        place, directory = Path(self._root), os.open(self._root, _DIRECTORY)
        try:
            for part in above:
                place /= part
                below = _opened(place, _DIRECTORY, directory)
                os.close(directory)
                directory = below
            file = _opened(place / name, _FILE, directory)
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise StoreError(f"{place / name} is no regular file; delete it")
        return file

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """The content of a file from byte `start`, which is not negative, up to byte `end`.

        Raises:
            StoreError: that is too much for the memory, or as of `open_regular`.
        """
        first = start or 0
        with os.fdopen(self.open_regular(self._strip_protocol(path)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if min(size, size if end is None else end) - first > _MOST_BYTES:
                raise StoreError(f"{path} is larger than anything that is read whole; delete it")
            file.seek(first)
            return file.read(-1 if end is None else max(0, end - first))

    def ls(self, path: str, detail: bool = False, **options: Any) -> list[Any]:
        """What stands in a directory, links as such."""
        self.refuse_links(self._strip_protocol(path))
        return list(super().ls(path, detail=detail, **options))

    def _open(self, path: str, mode: str = "rb", *arguments: Any, **options: Any) -> Any:
        self._refuse_irregular(path)
        return super()._open(path, mode, *arguments, **options)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file from or to the storage."""
        for path in (path1, path2):
            self._refuse_irregular(path)
        super().cp_file(path1, path2, **options)

    def rm_file(self, path: str) -> None:
        """Delete a file; of a link, the link."""
        self.refuse_links(Path(self._strip_protocol(path)).parent)
        super().rm_file(path)

    def remove_tree(self, path: str) -> None:
        """Delete a directory; of a link, the link."""
        self.refuse_links(Path(path).parent)
        with contextlib.suppress(FileNotFoundError):
            if Path(path).is_symlink():
                Path(path).unlink()
            else:
                shutil.rmtree(path)

    def _refuse_irregular(self, path: str) -> None:
        """Make sure that a path of the storage is a regular file, or does not exist."""
        path = str(self._strip_protocol(path))
        if self._names_below_root(path):
            self.refuse_links(path)
            if Path(path).exists() and not Path(path).is_file():
                raise StoreError(f"{path} is no regular file; delete it")


def regular_status(path: Path) -> os.stat_result | None:
    """What the system says of a file; None if it is none, or a link."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def read_regular(path: Path) -> bytes:
    """The content of a file of a stage that was fetched before, when it may have been another.

    Raises:
        StoreError: it is no regular file.
    """
    directory = os.open(path.parent, _DIRECTORY)
    try:
        file = _opened(path, _FILE, directory)
    finally:
        os.close(directory)
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StoreError(f"{path} is no regular file; delete it")
        return stream.read()


def links(directory: Path) -> Iterator[Path]:
    """The links at any depth below a directory, or the directory itself if it is one."""
    if directory.is_symlink():
        yield directory
        return
    for above, directories, files in os.walk(directory):
        places = (Path(above, name) for name in (*directories, *files))
        yield from (place for place in places if place.is_symlink())


def open_to_append(path: Path) -> int:
    """Open a file in the storage that grows; a link or pipe in its place is replaced.

    Returns:
        Its descriptor.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.open(path, flags, 0o666)


def _opened(place: Path, flags: int, directory: int) -> int:
    try:
        return os.open(place.name, flags, dir_fd=directory)
    except OSError:
        if place.is_symlink():
            raise _refusal(place) from None
        if place.is_socket():
            raise StoreError(f"{place} is no regular file; delete it") from None
        raise


def _refusal(link: Path) -> StoreError:
    return StoreError(
        f"{link} is a link, and below the root of a storage none is followed; delete it, or put "
        "what it leads to in its place (a mount is no link)"
    )


@contextlib.contextmanager
def locked(path: Path, mode: int = fcntl.LOCK_EX, temporary: bool = False) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when the holder dies, however it dies.

    Args:
        mode: as of `fcntl.flock`: `LOCK_SH` for holders that do not exclude each other; with
            `LOCK_NB` nothing is waited for.
        temporary: who leaves last deletes the file, and who waited for a deleted one opens it anew.
            A shared disk may show a deleted file for a while and so let two in: only for what
            something else protects, too.

    Raises:
        BlockingIOError: with `LOCK_NB`, another one holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:  # NFS shares no lock on a file that cannot be read
            fcntl.flock(file, mode)
            if not _is_file_at(path, file):
                continue
            try:
                yield
            finally:
                if temporary:
                    _delete_lock(path, file)
            return


def _delete_lock(path: Path, file: IO[str]) -> None:
    """Delete a lock file, unless another one holds it, too."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between its two locks another one may have held and deleted it.
        if _is_file_at(path, file):
            path.unlink()


def _is_file_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
