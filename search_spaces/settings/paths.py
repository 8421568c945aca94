"""Paths in settings, made absolute when a space is read.

    YAML file --> strings that carry its directory --> Location --> absolute path, or the string

Processes on other machines have other working directories, so paths are made absolute.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_SCHEME: Final = re.compile(r"[a-z][a-z0-9]+:")


class FileText(str):
    """A text in a space.

    Attributes:
        directory: the directory that a relative path is seen from.
    """

    directory: Path


def located_texts(data: Any, directory: Path) -> Any:
    """YAML data whose texts carry the directory that their relative paths are seen from.

    Args:
        data: nested mappings and lists; keys stay as they are.
        directory: an absolute path.
    """
    if isinstance(data, dict):
        return {key: located_texts(value, directory) for key, value in data.items()}
    if isinstance(data, list):
        return [located_texts(value, directory) for value in data]
    if not isinstance(data, str):
        return data
    text = FileText(data)
    text.directory = directory
    return text


def locate(value: Any) -> Any:
    """The absolute path of a text that names a file or a directory; everything else as it is.

    URIs, `shipped:NAME` and `compressai:METRIC` pass.
    """
    if not isinstance(value, str) or not value or "://" in value:
        return value
    path = _absolute(value)
    return str(value) if _SCHEME.match(value) and not is_there(path) else str(path)


def locate_or_name(value: Any) -> Any:
    """The absolute path of a file or directory that is there; everything else as it is.

    A text is a path if it begins with `.` or `~`, or if a file or directory of that name is there.
    So names of the hub pass, besides what `locate` passes.
    """
    if not isinstance(value, str) or not value or "://" in value:
        return value
    path = _absolute(value)
    return str(path) if value.startswith((".", "~")) or is_there(path) else str(value)


def is_there(path: Path) -> bool:
    """Whether a file or directory exists and can be seen; False for what can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_regular(path: Path) -> bool:
    """Whether a path is a file with an end: no pipe, device or directory; False for what can be no
    path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _absolute(text: str) -> Path:
    directory = text.directory if isinstance(text, FileText) else Path.cwd()
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no such user
        path = Path(text)
    return (directory / path).absolute()


def split_revision(name: str) -> tuple[str, str | None]:
    """A model's name without its revision, and the revision: a branch, a tag or a commit.

    `ORG/MODEL@REVISION` -> `ORG/MODEL`, `REVISION`. Absolute paths and `shipped:NAME` have none.
    """
    if Path(name).is_absolute() or _SCHEME.match(name):
        return name, None
    model, _, revision = name.partition("@")
    return model, revision or None


def short_name(location: str) -> str:
    """The last part of an absolute path; a hub id without its revision; else the text as it is."""
    path = Path(location)
    return path.name if path.is_absolute() else split_revision(location)[0]


Location = Annotated[str, BeforeValidator(locate)]
"""A path or a URI; also `shipped:NAME` and the like."""
LocationOrName = Annotated[str, BeforeValidator(locate_or_name)]
"""A path, or a name that something else finds."""
