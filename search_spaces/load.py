"""Reading spaces: by name or from YAML, with overrides; mistakes are reported together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from search_spaces.settings.mistakes import explain
from search_spaces.settings.overrides import PathError, merge, put
from search_spaces.settings.paths import located_texts
from search_spaces.specs.space import Space


class SpaceError(ValueError):
    """A space that cannot be swept; the message has a line per mistake."""


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that gives a setting twice, of which YAML would take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    text = f"{key.value!r} is given twice"
                    raise yaml.composer.ComposerError(None, None, text, key.start_mark)
                names.add(key.value)
        return node


def _parsed(text: str) -> Any:
    """Plain data from YAML; what it names is never run."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def named_spaces() -> dict[str, str]:
    """Name -> description of the spaces that come with the project."""
    descriptions = {}
    for entry in sorted(resources.files("search_spaces").joinpath("spaces").iterdir(), key=str):
        if entry.name.endswith(".yaml"):
            text = yaml.safe_load(entry.read_text(encoding="utf-8"))
            descriptions[entry.name.removesuffix(".yaml")] = str(
                text.get("description", "")
            ).strip()
    return descriptions


def load_space(space: str, overrides: Iterable[str] = ()) -> Space:
    """Read a space and apply `key.path=value` overrides.

    A YAML file may say `extends: SPACE` (a named one, or a file beside it): then its settings,
    which may be dotted paths as in an override, change that space's, mapping by mapping.

    Relative paths in a file are seen from its directory, those of overrides from the working
    directory.

    Args:
        space: a named space or the path of a YAML file.
        overrides: values are YAML (`data.train=512`, `scenarios=[d1, d2]`); a list item is named by
            its position (`codecs.0.lambdas=[0.01]`).

    Raises:
        SpaceError: with one line per mistake: the setting, the value and the valid choices.
    """
    data = _read(space)
    problems = [problem for text in overrides if (problem := _override(data, text))]
    if problems:
        raise SpaceError("\n".join(problems))
    try:
        return Space.model_validate(data)
    except ValidationError as error:
        raise SpaceError("\n".join(explain(error, Space))) from None


def _read(space: str, beside: Path = Path(), chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a space, on top of those of the space that it `extends`.

    Args:
        space: a named space, or a YAML file seen from the directory `beside`.
        chain: the spaces that led here.
    """
    path = beside / space
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SpaceError(f"space {space!r}: there is no such file")
        text, identity = _text(path, space), str(path.resolve())
    else:
        names = named_spaces()
        if space not in names:
            close = difflib.get_close_matches(space, names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise SpaceError(
                f"space {space!r}: no such space{hint}; named spaces are {', '.join(names)}, "
                "or give a .yaml file"
            )
        file = resources.files("search_spaces").joinpath("spaces", f"{space}.yaml")
        text, identity = file.read_text(encoding="utf-8"), space
    if identity in chain:
        raise SpaceError(f"space {space!r}: extends itself: {' -> '.join((*chain, identity))}")
    try:
        data = _parsed(text)
    except yaml.YAMLError as error:
        raise SpaceError(f"space {space!r}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise SpaceError(f"space {space!r}: a space is a mapping of settings")
    data = located_texts(data, path.parent.absolute())
    if "extends" in data:
        data = _extended(space, data, path.parent, (*chain, identity))
    return {"name": path.stem, **data}


def _text(path: Path, space: str) -> str:
    """The text of a space's file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpaceError(f"space {space!r}: no text in UTF-8") from None
    except OSError as error:
        raise SpaceError(f"space {space!r}: cannot be read ({error.strerror})") from None


def _extended(
    space: str, data: dict[str, Any], beside: Path, chain: tuple[str, ...]
) -> dict[str, Any]:
    """A space's own settings, which may be dotted paths, on top of another's."""
    base_name = data.pop("extends")
    if not isinstance(base_name, str):
        raise SpaceError(f"space {space!r}: extends = {base_name!r}: a named space or a YAML file")
    base = _read(base_name, beside, chain)
    for name in ("name", "description"):
        base.pop(name, None)
    try:
        merge(base, data)
    except PathError as error:
        raise SpaceError(f"space {space!r}: {error}") from None
    return base


def _override(data: dict[str, Any], text: str) -> str | None:
    """Apply one override in place; returns what is wrong with it, if anything."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.strip().split(".")):
        return f"--set {text!r}: write key.path=value"
    try:
        put(data, path, located_texts(_parsed(value), Path.cwd()))
    except yaml.YAMLError:
        return f"--set {text!r}: the value is not valid YAML"
    except PathError as error:
        return f"--set {text!r}: {error}"
    return None
