"""Paths in settings, made absolute when a space is read.

    YAML file --> texts that know its directory --> Location --> absolute path, or the text as it is

Processes on other machines have other working directories, so no relative path may leave here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator


class FileText(str):
    """A text in a space.

    Attributes:
        directory: the directory that a relative path is seen from.
    """

    directory: Path


def located_texts(data: Any, directory: Path) -> Any:
    """YAML data whose texts know the directory that their relative paths are seen from.

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
    """The absolute path of a text that is a path; everything else as it is.

    A text is a path if it begins with `.` or `~`, or if a file or directory of that name is there.
    So names of the hub, `shipped:NAME`, `compressai:METRIC` and URIs pass.
    """
    if not isinstance(value, str) or "://" in value or not value:
        return value
    directory = value.directory if isinstance(value, FileText) else Path.cwd()
    path = directory / Path(value).expanduser()
    is_path = value.startswith((".", "~")) or path.exists()
    return str(path.absolute()) if is_path else str(value)


def short_name(location: str) -> str:
    """The last part of an absolute path; anything else, such as a hub id, as it is."""
    path = Path(location)
    return path.name if path.is_absolute() else location


Location = Annotated[str, BeforeValidator(locate)]
"""A path, a URI, or a name that something else finds."""
