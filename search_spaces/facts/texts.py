"""Prompt templates and lists of class names: the texts for classes.

Files are UTF-8, one entry a line; empty lines are ignored. A template has one `{}`, where
the name goes. A class list has lines `KEY NAME`, in the order of the keys.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from search_spaces.settings.paths import is_regular, is_there

OF_DATA = "data"
"""Means the templates that the data set brings."""
PLAIN = ("{}",)


def template_sets() -> tuple[str, ...]:
    """The names that `surrogate.templates` may have besides a file's."""
    files = resources.files("search_spaces").joinpath("facts", "templates").iterdir()
    return (OF_DATA, "plain", *sorted(file.name.removesuffix(".txt") for file in files))


def read_templates(name: str) -> list[str] | None:
    """The templates of a set or a file; None for those of the data set.

    Raises:
        ValueError: no such set or file, or a line without one `{}`.
    """
    if name == OF_DATA:
        return None
    if name == "plain":
        return list(PLAIN)
    if name in template_sets():
        file = resources.files("search_spaces").joinpath("facts", "templates", f"{name}.txt")
        return file.read_text(encoding="utf-8").splitlines()
    lines = _lines(name, f"; templates are {', '.join(template_sets())}, or a file's")
    wrong = [line for line in lines if line.count("{}") != 1]
    if wrong:
        raise ValueError(f"{name}: a template has one {{}} where the name goes, not {wrong[0]!r}")
    return lines


def class_lists() -> tuple[str, ...]:
    """The names of the lists of classes that come with the project: `imagenet-1000`, ImageNet's
    synsets with the names that CLIP's authors chose, which tell apart what WordNet calls alike."""
    files = resources.files("search_spaces").joinpath("facts", "classes").iterdir()
    return tuple(sorted(file.name.removesuffix(".txt") for file in files))


def class_list_bytes(name: str) -> bytes:
    """The content of one of `class_lists()`."""
    file = resources.files("search_spaces").joinpath("facts", "classes", f"{name}.txt")
    return file.read_bytes()


def read_class_names(file: str) -> list[str]:
    """The class names in a file, in the order of the data set's classes.

    Raises:
        ValueError: the file cannot be read or is empty.
    """
    return _lines(file, "; give a file with a class name a line")


def _lines(name: str, choices: str) -> list[str]:
    file = Path(name)
    if is_there(file) and not is_regular(file):
        raise ValueError(f"{name!r} is no regular file{choices}")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{name!r} cannot be read ({reason}){choices}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{name!r} is empty{choices}")
    return lines
