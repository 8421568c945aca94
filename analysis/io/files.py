"""Local files and fsspec URIs, read and written whole."""

from __future__ import annotations

import contextlib
import posixpath
import uuid
from pathlib import Path

import fsspec

from analysis.io.schema import AnalysisError


def join(directory: str, *names: str) -> str:
    """A path below a local directory or an fsspec URI."""
    return "/".join([directory.rstrip("/") or "/", *names])


def below(directory: str, name: str) -> str:
    """The path of a file that a sweep names, which others may have made.

    Raises:
        AnalysisError: it would be elsewhere than below the sweep's directory.
    """
    if name.startswith("/") or "://" in name or "\\" in name or ".." in name.split("/"):
        raise AnalysisError(f"{directory}: names the file {name!r}, which is not below it")
    return join(directory, name)


def whole(path: str) -> str:
    """A local path from the root on; a URI as it is."""
    return path if "://" in path else posixpath.abspath(path)


def read_bytes(path: str) -> bytes:
    """All bytes of a local file or fsspec URI."""
    fs, inner = fsspec.core.url_to_fs(path)
    return bytes(fs.cat_file(inner))


def write_bytes(path: str, data: bytes) -> None:
    """Write a local file or fsspec URI whole: through a temporary name where files are local."""
    fs, inner = fsspec.core.url_to_fs(path)
    fs.makedirs(posixpath.dirname(inner), exist_ok=True)
    if "file" not in fs.protocol:  # object stores show a file only when it is complete
        fs.pipe_file(inner, data)
        return
    temporary = f"{inner}.{uuid.uuid4().hex}.tmp"
    try:
        fs.pipe_file(temporary, data)
        Path(temporary).replace(inner)  # also a link, which `mv` would follow to a directory
    finally:  # a full disk must not be filled with parts of files
        if fs.exists(temporary):
            fs.rm_file(temporary)


def exists(path: str) -> bool:
    """Whether a file or directory of that path exists."""
    fs, inner = fsspec.core.url_to_fs(path)
    return bool(fs.exists(inner))


def make_directory(path: str) -> None:
    """Make a local directory or that of an fsspec URI, unless it exists.

    Raises:
        OSError: it cannot be made, or a file has that name.
    """
    fs, inner = fsspec.core.url_to_fs(path)
    fs.makedirs(inner, exist_ok=True)


def remove_file(path: str) -> None:
    """Delete a local file or that of an fsspec URI, if it is there."""
    fs, inner = fsspec.core.url_to_fs(path)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(inner)
