"""Reading spaces: by name or from YAML, with overrides; mistakes are reported together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from pydantic import ValidationError

from search_spaces.settings.mistakes import explain
from search_spaces.settings.overrides import PathError, merge, put
from search_spaces.settings.paths import is_regular, located_texts
from search_spaces.specs.data import DataSpec
from search_spaces.specs.space import Space

# What a file may hold; the project's spaces have less than a hundredth of it.
MOST_LETTERS: Final = 1_000_000
MOST_VALUES: Final = 20_000
MOST_LEVELS: Final = 40
MOST_DIGITS: Final = 40
_KIND: Final = DataSpec.model_fields["kind"].default
"""Of data that name none."""


class SpaceError(ValueError):
    """A space that cannot be swept; the message has a line per mistake."""


class _Loader(yaml.SafeLoader):
    """Refuses what no space is: a setting given twice, of which YAML would take the last one; and
    data that grows without end by its aliases, its depth or its numbers.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[int] = [0]
        """Values within each of the nodes that are just being composed."""
        self._sizes: dict[str, int] = {}
        """Anchor -> values within its node, and the node itself."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._open) > MOST_LEVELS:
            _refuse(event, f"nested more than {MOST_LEVELS} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                _refuse(event, f"*{event.anchor} stands within itself")
            size, node = self._sizes.get(str(event.anchor), 1), super().compose_node(parent, index)
        else:
            self._open.append(1)
            node = super().compose_node(parent, index)
            size = self._open.pop()
            if event.anchor is not None:
                self._sizes[event.anchor] = size
        self._open[-1] += size
        if self._open[-1] > MOST_VALUES:
            _refuse(event, f"more than {MOST_VALUES} values, with those of its aliases")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    _refuse(key, f"{key.value[:MOST_DIGITS]!r} is given twice")
                names.add(key.value)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            _refuse(node, f"a whole number of more than {MOST_DIGITS} digits")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _refuse(place: Any, mistake: str) -> NoReturn:
    """Raise an error about an event or a node."""
    raise yaml.composer.ComposerError(None, None, mistake, place.start_mark)


def _parsed(text: str) -> Any:
    """Plain data from YAML; what it names is never run.

    Raises:
        SpaceError: it is no valid YAML, or too much of it; in one line.
    """
    try:
        if len(text) > MOST_LETTERS:
            raise SpaceError(f"more than {MOST_LETTERS} letters")
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise SpaceError(f"not valid YAML: {error.problem or error.context}{where}") from None
    except SpaceError:
        raise
    except Exception as error:  # of what a value is made by: dates, numbers, explicit tags
        text = " ".join(str(error).split())
        raise SpaceError(f"not valid YAML: {text or type(error).__name__}") from None


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
        if not is_regular(path):
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
    except SpaceError as error:
        raise SpaceError(f"space {space!r}: {error}") from None
    if not isinstance(data, dict):
        raise SpaceError(f"space {space!r}: a space is a mapping of settings")
    data = located_texts(data, path.parent.absolute())
    if "extends" in data:
        data = _extended(space, data, path.parent, (*chain, identity))
    return {"name": path.stem, **data}


def _text(path: Path, space: str) -> str:
    """The text of a space's file."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MOST_LETTERS + 1)
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
    if _kind_of(data.get("data"), None) not in (None, _kind_of(base.get("data"), _KIND)):
        base.pop("data", None)
    try:
        merge(base, data)
    except PathError as error:
        raise SpaceError(f"space {space!r}: {error}") from None
    return base


def _kind_of(data: object, default: str | None) -> object:
    return data.get("kind", default) if isinstance(data, dict) else default


def _override(data: dict[str, Any], text: str) -> str | None:
    """Apply one override in place; returns what is wrong with it, if anything."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.strip().split(".")):
        return f"--set {text!r}: write key.path=value"
    try:
        put(data, path, located_texts(_parsed(value), Path.cwd()))
    except (SpaceError, PathError) as error:
        return f"--set {text!r}: {error}"
    return None
