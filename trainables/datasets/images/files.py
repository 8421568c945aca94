"""The files of a data set: listing them, telling images from others, finding its own splits.

Local directories are walked by the operating system (a million files take seconds); any other
URI goes through fsspec.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import fsspec

from search_spaces.facts.texts import class_list_bytes, class_lists
from search_spaces.settings.mistakes import in_a_line

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
SPLITS = ("train", "val", "test")
_ALIASES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
# Where a file system says when an object was last written, or what is in it.
_STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime"),
    *("updated", "modified", "created"),
)


WHOLE: Final = 256 * 2**20
"""Bytes up to which all of a file is read: a plan must not read hundreds of GB."""
_BLOCKS: Final = 64
_BLOCK: Final = 2**16


class SourceError(ValueError):
    """A data set that cannot be used; the message has a line per mistake."""


class File(NamedTuple):
    """A file below a data set's root, by its path there; `stamp` changes when it is rewritten.

    A tuple, because data sets have millions of them: tuples are sorted three times as fast as
    instances of a dataclass.
    """

    path: str
    size: int
    stamp: str


def open_root(uri: str) -> tuple[Any, str]:
    """The fsspec file system and the path in it of a data set; local paths become absolute.

    Raises:
        SourceError: the scheme is unknown, its package is not installed, or it is another URI's.
    """
    try:
        fs, root = fsspec.core.url_to_fs(uri)
    except Exception as error:  # each file system has its own errors, as of an archive
        raise SourceError(f"cannot be opened ({in_a_line(error)})") from error
    return fs, str(root).rstrip("/") or "/"


def is_local(fs: Any) -> bool:
    """Whether a file system is this machine's."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "file" in protocols


def walk(fs: Any, root: str) -> list[File]:
    """All files below a root, hidden ones left out, sorted by path; a single file is itself.

    Raises:
        SourceError: there is nothing, it cannot be read, or there is a pipe or a device, which may
            have no end; or a local file's name is not UTF-8.
    """
    try:
        if fs.isfile(root):
            info = fs.info(root)
            return [File(PurePosixPath(root).name, info["size"], _stamp(info))]
        if not fs.isdir(root):
            raise SourceError("no such directory or file")
        return sorted(_walk_local(root) if is_local(fs) else _walk_remote(fs, root))
    except SourceError:
        raise
    except Exception as error:
        # Each storage has its own errors: whatever it says, the data cannot be read.
        raise SourceError(f"cannot be read ({in_a_line(error)})") from error


@lru_cache(maxsize=4)
def list_files(root: str) -> tuple[File, ...]:
    """The files below a directory, listed once per process.

    Raises:
        SourceError: there is no such directory, or it cannot be read.
    """
    fs, path = open_root(root)
    return tuple(walk(fs, path))


def _walk_local(root: str) -> Iterator[File]:
    def fail(error: OSError) -> None:
        raise error

    for directory, folders, names in os.walk(root, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        below = directory[len(root) :].lstrip("/")
        prefix = f"{below}/" if below else ""
        for name in names:
            if not _hidden(name):
                status = os.stat(f"{directory}/{name}")  # noqa: PTH116 - a million of them
                if not stat.S_ISREG(status.st_mode):
                    raise SourceError(f"{prefix}{name} is no regular file")
                if not _is_utf8(prefix + name):
                    raise SourceError(f"{prefix}{name}: its name is not UTF-8")
                yield File(prefix + name, status.st_size, str(status.st_mtime_ns))


def _walk_remote(fs: Any, root: str) -> Iterator[File]:
    prefix = fs._strip_protocol(root).rstrip("/")
    for whole_path, info in fs.find(root, detail=True).items():
        path = whole_path[len(prefix) :].lstrip("/")
        if info.get("type", "file") == "file" and not any(map(_hidden, path.split("/"))):
            yield File(path, info["size"] or 0, _stamp(info))


def _stamp(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in _STAMPS if info.get(key)), "")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # of bytes that Python keeps as surrogates
        return False
    return True


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """`train`, `val`, `test` -> the name by which a data set has it; what it lacks is absent."""
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    splits = {}
    for split, aliases in _ALIASES.items():
        name = next((by_lower[alias] for alias in aliases if alias in by_lower), None)
        if name is not None:
            splits[split] = name
    return splits


def split_of_file(path: str) -> str | None:
    """The split that a file of a table belongs to, by a folder or the start of its name.

    `train/x.parquet`, `data/train-00000-of-00010.parquet`, `validation.parquet`.
    """
    parts = path.split("/")
    known = {alias for aliases in _ALIASES.values() for alias in aliases}
    for part in (*parts[:-1], re.split(r"[-_.]", parts[-1])[0]):
        if part.lower() in known:
            return part
    return None


def local_path(fs: Any, path: str) -> str:
    """The path of a file on this machine; one from elsewhere is fetched once per process."""
    if is_local(fs):
        return path
    with _cache_of(fs).open(path) as file:
        fetched: str = file.name
    return fetched


@lru_cache
def _cache_of(fs: Any) -> Any:
    """Copies of remote files, in a temporary directory that ends with the process."""
    return fsspec.filesystem("simplecache", fs=fs)


def read_bytes(uri: str) -> bytes:
    """A file, from a path or URI, or a list of classes by its name (`class_lists`).

    Raises:
        SourceError: it is not there, or cannot be read.
    """
    if uri in class_lists():
        return class_list_bytes(uri)
    fs, path = open_root(uri)
    try:
        if is_local(fs) and Path(path).exists() and not Path(path).is_file():
            raise SourceError("is no regular file")
        data: bytes = fs.cat_file(path)
    except SourceError:
        raise
    except Exception as error:  # each storage has its own errors
        raise SourceError(f"cannot be read ({type(error).__name__})") from error
    return data


def parse_json(text: str | bytes) -> Any:
    """JSON data from elsewhere.

    Raises:
        SourceError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not JSON ({error})") from error


def read_text(uri: str) -> str:
    """A small text file, from a path or URI.

    Raises:
        SourceError: it is not there or not text.
    """
    try:
        return read_bytes(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"cannot be read ({type(error).__name__})") from error


def file_checksum(file: Path, may_sample: bool = True) -> str:
    """SHA-256 of a file's bytes; of a file above `WHOLE`, of its size and evenly spread blocks.

    Args:
        may_sample: False for the bytes of a file of any size.

    Raises:
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE or not may_sample:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for number in range(_BLOCKS):
            stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK))
        return f"sampled-{digest.hexdigest()}"


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `out` once it has been written.

    Two writers of one file may meet after a restart; each has its own temporary file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file, a link or a directory with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(file: Path, content: object, indent: int = 1) -> None:
    """Write indented JSON to a local file.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    file.write_text(text, encoding="utf-8")


def absolute(uri: str) -> str:
    """The same place for processes with another working directory."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())
